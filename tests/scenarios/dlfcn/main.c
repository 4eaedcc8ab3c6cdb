/* Runs one command per argument, its words separated by ':', and prints what dlopen, dlsym, dlclose, dlerror answered.
     open:NAME:FLAGS  FLAGS are letters: l(azy) n(ow) g(lobal) o (local) x (noload) d (nodelete); NAME may be empty for NULL
     sym:HANDLE:NAME  call:HANDLE:NAME:A:B  data:HANDLE:NAME  close:HANDLE  error
   HANDLE is a number that `open` printed, or default, next, bad. */
#include <guest_dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main_total = 500;
int main_scale(int x) { return 3 * x; }

static void *handles[32];
static int count;

static void *handle(const char *text) {
    if (!strcmp(text, "default"))
        return RTLD_DEFAULT;
    if (!strcmp(text, "next"))
        return RTLD_NEXT;
    if (!strcmp(text, "bad"))
        return (void *)0x12345678;
    return handles[atoi(text)];
}

static const char *error(void) {
    const char *text = dlerror();
    return text ? text : "(none)";
}

static int flags(const char *letters) {
    int all = 0;
    for (; *letters; letters++)
        all |= *letters == 'l'   ? RTLD_LAZY
               : *letters == 'n' ? RTLD_NOW
               : *letters == 'g' ? RTLD_GLOBAL
               : *letters == 'o' ? RTLD_LOCAL
               : *letters == 'x' ? RTLD_NOLOAD
                                 : RTLD_NODELETE;
    return all;
}

static void command(char *line) {
    char *words[5] = {0};
    int n = 0;
    while (n < 5 && (words[n] = strsep(&line, ":")))
        n++;
    if (!strcmp(words[0], "open")) {
        void *opened = dlopen(words[1][0] ? words[1] : NULL, flags(words[2]));
        int i = 0;
        if (!opened) {
            printf("open %s: null, %s\n", words[1], error());
            return;
        }
        while (i < count && handles[i] != opened)
            i++;
        if (i == count)
            handles[count++] = opened;
        printf("open %s: %d\n", words[1], i);
    } else if (!strcmp(words[0], "sym")) {
        void *found = dlsym(handle(words[1]), words[2]);
        if (found)
            printf("sym %s: found\n", words[2]);
        else
            printf("sym %s: null, %s\n", words[2], error());
    } else if (!strcmp(words[0], "call")) {
        int (*function)(int, int) = (int (*)(int, int))dlsym(handle(words[1]), words[2]);
        printf("call %s: %d\n", words[2], function(atoi(words[3]), atoi(words[4])));
    } else if (!strcmp(words[0], "data")) {
        int *data = (int *)dlsym(handle(words[1]), words[2]);
        printf("data %s: %d\n", words[2], *data);
    } else if (!strcmp(words[0], "close")) {
        int status = dlclose(handle(words[1]));
        if (status)
            printf("close: %s, %s\n", status ? "failed" : "0", error());
        else
            printf("close: 0\n");
    } else {
        printf("error: %s\n", error());
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        command(argv[i]);
    return 0;
}
