/* A plugin: what the host calls, and what it is lent by the host. */
void host_name(const char *name);
#ifdef BROKEN
int no_such_function(int number);
#endif

static int count;

/* The host calls this first, with the events that the plugin before it has seen. */
void start(int events) {
    count = events;
#ifdef SQUARES
    host_name("squares");
#else
    host_name("doubles");
#endif
}

int on_event(int number) {
    count++;
#ifdef BROKEN
    return no_such_function(number);
#elif defined SQUARES
    return number * number;
#else
    return number * 2;
#endif
}

int events_seen(void) {
    return count;
}
