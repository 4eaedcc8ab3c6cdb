/* search: the first place that has the file, links that are not followed, and closed descriptors;
 * with openat2 and without. */
#define _GNU_SOURCE
#include "check.h"

#include "search.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char root[64];
static pl_root top; /* of the whole tree */

static const char *below(const char *rest) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", root, rest);
    return path;
}

static void put(const char *rest, const char *text) {
    FILE *file = fopen(below(rest), "w");
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void set_up(void) {
    strcpy(root, "/tmp/pl-search-XXXXXX");
    CHECK(mkdtemp(root) != NULL);
    CHECK(mkdir(below("a"), 0700) == 0 && mkdir(below("b"), 0700) == 0 &&
          mkdir(below("b/deep"), 0700) == 0);
    put("b/lib", "four");
    put("b/deep/lib", "deeper");
    CHECK(pl_root_open(&top, root) == 0 && top.handle >= 0 &&
          (fcntl(top.handle, F_GETFD) & FD_CLOEXEC));
}

static void tear_down(void) {
    char command[128];
    pl_root_close(&top);
    pl_root_close(&top);
    snprintf(command, sizeof command, "rm -rf %s", root);
    CHECK(system(command) == 0);
}

static pl_place place(const char *prefix) {
    return (pl_place){&top, prefix, (uint32_t)strlen(prefix)};
}

static int closed_handles(void) { /* the lowest handle that is free */
    int handle = dup(0);
    CHECK(handle >= 0 && close(handle) == 0);
    return handle;
}

static void test_the_first_that_has_it(void) {
    set_up();
    int before = closed_handles();
    pl_place places[] = {place("a/"), place("b/"), place("b/deep/")};
    int32_t problems[3];
    pl_file file = {.handle = -1};
    CHECK(pl_search(places, 3, "lib", 3, problems, &file) == 1);
    CHECK(problems[0] == ENOENT && problems[1] == 0 && file.handle >= 0 && file.size == 4);
    char text[8];
    CHECK(read(file.handle, text, sizeof text) == 4 && memcmp(text, "four", 4) == 0);
    CHECK(fcntl(file.handle, F_GETFD) & FD_CLOEXEC);
    pl_file_close(&file);
    pl_file_close(&file);
    CHECK(file.handle == -1 && closed_handles() == before);
    /* the name has a length */
    CHECK(pl_search(places + 2, 1, "libx", 3, problems, &file) == 0 && file.size == 6);
    pl_file_close(&file);
    CHECK(pl_search(places, 3, "none", 4, problems, &file) == 3 && file.handle == -1);
    CHECK(problems[0] == ENOENT && problems[1] == ENOENT && problems[2] == ENOENT);
    CHECK(pl_search(places, 0, "lib", 3, problems, &file) == 0);
    pl_place whole = place("b/deep/lib"); /* no name follows */
    CHECK(pl_search(&whole, 1, "", 0, problems, &file) == 0 && problems[0] == 0 && file.size == 6);
    pl_file_close(&file);
    CHECK(closed_handles() == before);
    tear_down();
}

static void test_links_are_left_to_the_caller(void) {
    set_up();
    int before = closed_handles();
    CHECK(symlink("../b/lib", below("a/lib")) == 0 && symlink("b", below("link")) == 0 &&
          symlink("/", below("a/up")) == 0);
    pl_place places[] = {place("a/"), place("b/"), place("link/"), place("link/deep/"),
                         place("a/up/etc/")};
    int32_t problems[5];
    pl_file file = {.handle = -1};
    for (int number = 0; number < 5; number++) {
        if (number != 1) {
            CHECK(pl_search(places + number, 1, "lib", 3, problems, &file) == 0 &&
                  problems[0] == PL_SEARCH_CALLER && file.handle == -1);
        }
    }
    pl_place nowhere[] = {place("b/deep/x/"), {NULL, NULL, 0}, place("b/")};
    CHECK(pl_search(nowhere, 3, "lib", 3, problems, &file) == 1 && problems[0] == ENOENT &&
          problems[1] == PL_SEARCH_CALLER);
    CHECK(file.handle == -1 && closed_handles() == before);
    char target[64];
    CHECK(pl_search_link(&top, "a/lib", target, sizeof target) == 8 &&
          memcmp(target, "../b/lib", 8) == 0);
    CHECK(pl_search_link(&top, "link", target, sizeof target) == 1 && target[0] == 'b');
    CHECK(pl_search_link(&top, "link", target, 0) <= 0);
    CHECK(pl_search_link(&top, "b", target, sizeof target) == -EINVAL &&
          pl_search_link(&top, "b/lib", target, sizeof target) == -EINVAL);
    CHECK(pl_search_link(&top, "none", target, sizeof target) == -ENOENT &&
          pl_search_link(&top, "x/y", target, sizeof target) == -ENOENT);
    CHECK(pl_search_link(&top, "b/lib/x", target, sizeof target) == -ENOTDIR);
    CHECK(pl_search_link(&top, "link/lib", target, sizeof target) == -ELOOP);
    CHECK(closed_handles() == before);
    tear_down();
}

static void test_only_names(void) {
    set_up();
    const char *paths[] = {"..",      ".",      "",   "/lib",      "../lib",     "b/../b/lib",
                           "b/./lib", "b//lib", "b/", "b/deep/..", "/etc/passwd"};
    char target[8];
    for (size_t number = 0; number < sizeof paths / sizeof *paths; number++) {
        int32_t problem;
        pl_file file = {.handle = -1};
        pl_place nowhere = place("");
        CHECK(pl_search(&nowhere, 1, paths[number], strlen(paths[number]), &problem, &file) == 1 &&
              problem == EINVAL);
        CHECK(pl_search_link(&top, paths[number], target, sizeof target) == -EINVAL);
    }
    tear_down();
}

static void test_roots(void) {
    set_up();
    int before = closed_handles();
    pl_root other;
    int32_t problem;
    pl_file file = {.handle = -1};
    pl_place inside = {&other, "", 0};
    char path[256], moved[256], target[8];
    strcpy(path, below("later"));
    strcpy(moved, below("moved"));
    CHECK(pl_root_open(&other, path) == ENOENT && other.handle == -1);
    CHECK(pl_search(&inside, 1, "lib", 3, &problem, &file) == 1 && problem == ENOENT);
    CHECK(pl_search_link(&other, "lib", target, sizeof target) == -ENOENT);
    CHECK(symlink("b", path) == 0); /* what comes there later is no link */
    CHECK(pl_root_open(&other, path) == ELOOP && other.handle == -1);
    CHECK(pl_search(&inside, 1, "lib", 3, &problem, &file) == 1 && problem == ENOENT);
    CHECK(pl_search_link(&other, "lib", target, sizeof target) == -ENOENT);
    CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
    put("later/lib", "later");
    CHECK(symlink("lib", below("later/link")) == 0);
    CHECK(pl_search(&inside, 1, "lib", 3, &problem, &file) == 0 && file.size == 5 &&
          other.handle == -1);
    CHECK(pl_search_link(&other, "link", target, sizeof target) == 3);
    pl_file_close(&file);
    CHECK(closed_handles() == before);
    CHECK(pl_root_open(&other, path) == 0); /* and now it is that directory, wherever it goes */
    CHECK(rename(path, moved) == 0 && symlink("b", path) == 0);
    CHECK(pl_search(&inside, 1, "lib", 3, &problem, &file) == 0 && file.size == 5);
    pl_file_close(&file);
    CHECK(unlink(below("moved/lib")) == 0 && unlink(below("moved/link")) == 0 && rmdir(moved) == 0);
    /* a link is not in its place */
    CHECK(pl_search(&inside, 1, "lib", 3, &problem, &file) == 1 && problem == ENOENT);
    CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
    put("later/lib", "again"); /* another directory is, since it was removed */
    CHECK(pl_search(&inside, 1, "lib", 3, &problem, &file) == 0 && file.size == 5);
    pl_file_close(&file);
    pl_root_close(&other);
    CHECK(pl_root_open(&other, below("b/lib")) == ENOTDIR);
    CHECK(pl_search(&inside, 1, "lib", 3, &problem, &file) == 1 && problem == ENOTDIR);
    CHECK(pl_root_open(&other, "/") == 0);
    pl_root_close(&other);
    CHECK(closed_handles() == before);
    tear_down();
}

/* A directory and a link change places for ever; a file outside is never opened. */
static atomic_int swapping;

static void *swap(void *unused) {
    (void)unused;
    char inside[128], link[128], spare[128];
    strcpy(inside, below("a/x"));
    strcpy(link, below("a/link"));
    strcpy(spare, below("a/spare"));
    while (atomic_load(&swapping)) {
        CHECK(rename(inside, spare) == 0 && rename(link, inside) == 0);
        CHECK(rename(inside, link) == 0 && rename(spare, inside) == 0);
    }
    return NULL;
}

static void test_a_link_that_takes_the_place_of_a_directory(void) {
    set_up();
    CHECK(mkdir(below("a/x"), 0700) == 0 && symlink("../b", below("a/link")) == 0);
    put("a/x/lib", "in");
    pl_root inside;
    char path[128];
    strcpy(path, below("a"));
    CHECK(pl_root_open(&inside, path) == 0);
    pl_place places[] = {{&inside, "x/", 2}};
    atomic_store(&swapping, 1);
    pthread_t thread = thread_start(swap, NULL);
    int found = 0, links = 0;
    for (int times = 0; times < 20000 || found == 0 || links == 0; times++) {
        int32_t problem;
        pl_file file = {.handle = -1};
        char target[8];
        pl_search(places, 1, "lib", 3, &problem, &file);
        CHECK(problem == 0
                  ? file.size == 2
                  : problem == ENOENT || problem == ENOTDIR || problem == PL_SEARCH_CALLER);
        found += problem == 0;
        links += problem == PL_SEARCH_CALLER;
        pl_file_close(&file);
        int32_t length = pl_search_link(&inside, "x/lib", target, sizeof target);
        CHECK(length == -EINVAL || length == -ENOENT || length == -ENOTDIR || length == -ELOOP);
    }
    atomic_store(&swapping, 0);
    thread_join(thread);
    pl_root_close(&inside);
    tear_down();
}

static void test_only_regular_files(void) {
    set_up();
    int before = closed_handles();
    CHECK(mkdir(below("a/lib"), 0700) == 0 && mkfifo(below("a/fifo"), 0600) == 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, below("a/socket"));
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
          close(listener) == 0);
    pl_place places[] = {place("a/"), place("b/lib/")};
    int32_t problems[2];
    pl_file file = {.handle = -1};
    CHECK(pl_search(places, 2, "lib", 3, problems, &file) == 2);
    CHECK(problems[0] == PL_SEARCH_DIRECTORY && problems[1] == ENOTDIR);
    CHECK(pl_search(places, 1, "fifo", 4, problems, &file) == 1 &&
          problems[0] == PL_SEARCH_SPECIAL);
    CHECK(pl_search(places, 1, "socket", 6, problems, &file) == 1 &&
          problems[0] == PL_SEARCH_SPECIAL);
    CHECK(file.handle == -1 && closed_handles() == before);
    tear_down();
}

static void test_long_names(void) {
    set_up();
    static char name[5000];
    memset(name, 'x', sizeof name);
    pl_place places[] = {place("a/")};
    int32_t problem;
    pl_file file = {.handle = -1};
    for (size_t length = 200; length <= sizeof name; length += 50) {
        CHECK(pl_search(places, 1, name, length, &problem, &file) == 1);
        CHECK(problem == (length <= 255 ? ENOENT : ENAMETOOLONG));
    }
    tear_down();
}

static void test_without_openat2(void) {
    pl_search_by_component(1);
    test_the_first_that_has_it();
    test_links_are_left_to_the_caller();
    test_only_names();
    test_roots();
    test_a_link_that_takes_the_place_of_a_directory();
    test_only_regular_files();
    test_long_names();
    pl_search_by_component(0);
}

int main(void) {
    check_begin(0);
    RUN(test_the_first_that_has_it);
    RUN(test_links_are_left_to_the_caller);
    RUN(test_only_names);
    RUN(test_roots);
    RUN(test_a_link_that_takes_the_place_of_a_directory);
    RUN(test_only_regular_files);
    RUN(test_long_names);
    RUN(test_without_openat2);
    return 0;
}
