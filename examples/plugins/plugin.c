/* A plugin: a function that the host provides, three that it calls, and what a plugin may do wrong. */
void host_name(const char *name);

static int count;

#ifdef HANGS
__attribute__((constructor)) static void hang(void) {
    for (volatile int forever = 1; forever;);
}
#endif

/* The host calls this first, with the events that the plugin before it has seen. */
void start(int events) {
    count = events;
#ifdef CRASHES
    __builtin_trap();
#endif
#ifdef SQUARES
    host_name("squares");
#else
    host_name("doubles");
#endif
}

#ifndef INCOMPLETE
#ifdef UNDEFINED
int no_such_function(int number);
#endif

int on_event(int number) {
    count++;
#ifdef UNDEFINED
    return no_such_function(number);
#elif defined SQUARES
    return number * number;
#else
    return number * 2;
#endif
}
#endif

int events_seen(void) {
    return count;
}
