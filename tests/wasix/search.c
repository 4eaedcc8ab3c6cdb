/* Where libraries are found: libwhich.so is in /opt/one, /opt/two, /lib and /usr/lib, and tells which it is. */
#include "guest.h"

static int opened(const char *name, const char *library_path, u32 *handle) {
    int error = dlopen(name, length(name), NOW, message, sizeof message, library_path, length(library_path), handle);
    return error ? -error : ((int (*)(void))find(*handle, "which"))();
}

void _start(void) {
    u32 handle = 0, other = 0;
    const char *order = argument(1);
    if (equal(order, "path")) /* the first open decides which it is, so each way is a run of its own */
        print("%d\n", opened("libwhich.so", "/opt/two:/opt/one", &handle));
    else if (equal(order, "default"))
        print("%d\n", opened("libwhich.so", "", &handle));
    else if (equal(order, "absent"))
        print("%d\n", opened("libwhich.so", "/nowhere::/opt/one", &handle));
    else if (equal(order, "usr"))
        print("%d\n", opened("libusr.so", "", &handle));
    else if (equal(order, "local"))
        print("%d\n", opened("liblocal.so", "", &handle));
    else if (equal(order, "slash")) {
        print("%d ", opened("/opt/one/libwhich.so", "/opt/two", &handle));
        print("%d ", opened("/opt/two/libwhich.so", "", &other));
        print("%d\n", handle != other);
        print("another way to the same: %d\n", opened("/opt/./two/../one/libwhich.so", "", &other));
        print("it is one library: %d\n", handle == other);
    } else if (equal(order, "name")) {
        print("%d ", opened("libwhich.so", "", &handle));
        print("%d\n", opened("/lib/libwhich.so", "", &other));
        print("it is one library: %d\n", handle == other);
        print("found elsewhere: %d\n", opened("libwhich.so", "/opt/one", &other));
    }
    proc_exit2(0);
}
