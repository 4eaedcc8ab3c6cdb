/* search: the first place that has the file is the one, links are nobody's business here, and what is opened is closed. */
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
    CHECK(mkdir(below("a"), 0700) == 0 && mkdir(below("b"), 0700) == 0 && mkdir(below("b/deep"), 0700) == 0);
    put("b/lib", "four");
    put("b/deep/lib", "deeper");
}

static void tear_down(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    CHECK(system(command) == 0);
}

/* A place below the root, which has no links. */
static pl_place place(const char *rest) {
    static char texts[8][128];
    static unsigned next;
    char *text = texts[next++ % 8];
    snprintf(text, sizeof *texts, "%s/%s", root, rest);
    return (pl_place){text, (uint32_t)strlen(text), (uint32_t)strlen(root)};
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
    CHECK(pl_search(places + 2, 1, "libx", 3, problems, &file) == 0 && file.size == 6); /* the name has a length */
    pl_file_close(&file);
    CHECK(pl_search(places, 3, "none", 4, problems, &file) == 3 && file.handle == -1);
    CHECK(problems[0] == ENOENT && problems[1] == ENOENT && problems[2] == ENOENT);
    CHECK(pl_search(places, 0, "lib", 3, problems, &file) == 0);
    pl_place whole = place("b/deep/lib"); /* all of it is known, and no name follows */
    whole.known = whole.length;
    CHECK(pl_search(&whole, 1, "", 0, problems, &file) == 0 && problems[0] == 0 && file.size == 6);
    pl_file_close(&file);
    tear_down();
}

static void test_links_are_left_to_the_caller(void) {
    set_up();
    int before = closed_handles();
    CHECK(symlink("../b/lib", below("a/lib")) == 0 && symlink("b", below("link")) == 0);
    pl_place places[] = {place("a/"), place("b/"), place("link/")};
    int32_t problems[3];
    pl_file file = {.handle = -1};
    CHECK(pl_search(places, 3, "lib", 3, problems, &file) == 0 && problems[0] == PL_SEARCH_CALLER && file.handle == -1);
    CHECK(pl_search(places + 2, 1, "lib", 3, problems, &file) == 0 && problems[0] == PL_SEARCH_CALLER && file.handle == -1);
    places[2].known = places[2].length - 1; /* the caller says that this has no links */
    CHECK(pl_search(places + 2, 1, "lib", 3, problems, &file) == 0 && problems[0] == 0);
    pl_file_close(&file);
    pl_place nowhere[] = {place("b/deep/x/"), {NULL, 0, 0}, place("b/")};
    CHECK(pl_search(nowhere, 3, "lib", 3, problems, &file) == 1 && problems[0] == ENOENT && problems[1] == PL_SEARCH_CALLER);
    CHECK(file.handle == -1 && closed_handles() == before);
    tear_down();
}

static void test_only_regular_files(void) {
    set_up();
    int before = closed_handles();
    CHECK(mkdir(below("a/lib"), 0700) == 0 && mkfifo(below("a/fifo"), 0600) == 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, below("a/socket"));
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && close(listener) == 0);
    pl_place places[] = {place("a/"), place("b/lib/")};
    int32_t problems[2];
    pl_file file = {.handle = -1};
    CHECK(pl_search(places, 2, "lib", 3, problems, &file) == 2);
    CHECK(problems[0] == PL_SEARCH_DIRECTORY && problems[1] == ENOTDIR);
    CHECK(pl_search(places, 1, "fifo", 4, problems, &file) == 1 && problems[0] == PL_SEARCH_SPECIAL);
    CHECK(pl_search(places, 1, "socket", 6, problems, &file) == 1 && problems[0] == PL_SEARCH_SPECIAL);
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

int main(void) {
    check_begin(0);
    RUN(test_the_first_that_has_it);
    RUN(test_links_are_left_to_the_caller);
    RUN(test_only_regular_files);
    RUN(test_long_names);
    return 0;
}
