/* One command per argument: what a program sees of its host. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int report(const char *text);
int report_raw(const char *text);

static void show_file(const char *path) {
    FILE *file = fopen(path, "r");
    char line[100];
    if (!file) {
        printf("cannot open %s: %s\n", path, strerror(errno));
        return;
    }
    while (fgets(line, sizeof line, file))
        printf("%s: %s", path, line);
    fclose(file);
}

static void list(const char *path) {
    DIR *directory = opendir(path);
    struct dirent *entry;
    int files = 0;
    if (!directory) {
        printf("cannot list %s: %s\n", path, strerror(errno));
        return;
    }
    while ((entry = readdir(directory)))
        files += entry->d_name[0] != '.';
    closedir(directory);
    printf("%s has %d\n", path, files);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *next = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(word, "args")) {
            for (int j = 0; j < argc; j++)
                printf("%d=%s\n", j, argv[j]);
        } else if (!strcmp(word, "env")) {
            const char *value = getenv(next);
            printf("%s=%s\n", next, value ? value : "(unset)");
            i++;
        } else if (!strcmp(word, "cat")) {
            show_file(next);
            i++;
        } else if (!strcmp(word, "list")) {
            list(next);
            i++;
        } else if (!strcmp(word, "write")) {
            FILE *file = fopen(next, "w");
            if (file) {
                fprintf(file, "written by the guest\n");
                fclose(file);
                printf("wrote %s\n", next);
            } else {
                printf("cannot write %s: %s\n", next, strerror(errno));
            }
            i++;
        } else if (!strcmp(word, "stdin")) {
            char line[100];
            while (fgets(line, sizeof line, stdin))
                printf("stdin: %s", line);
        } else if (!strcmp(word, "stderr")) {
            fprintf(stderr, "to stderr\n");
        } else if (!strcmp(word, "report")) {
            fflush(stdout);
            printf("report: %d\n", report("from the library"));
        } else if (!strcmp(word, "raw")) {
            fflush(stdout);
            printf("raw: %d\n", report_raw("raw from the library\n"));
        } else if (!strcmp(word, "return")) {
            return atoi(next);
        } else if (!strcmp(word, "exit")) {
            exit(atoi(next));
        } else if (!strcmp(word, "_exit")) {
            fflush(stdout);
            _exit(atoi(next));
        } else if (!strcmp(word, "abort")) {
            fflush(stdout);
            abort();
        }
    }
    return 0;
}
