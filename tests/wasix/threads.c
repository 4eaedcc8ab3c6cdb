/* Threads: numbers, arguments, ends. */
#include "guest.h"

_Thread_local int mine = 5;

static struct {
    u32 own, given, process;
    int argument, mine;
} seen[4];

static void look(int index) {
    thread_id(&seen[index].own);
    proc_id(&seen[index].process);
    seen[index].given = LOAD(given_number_of_last);
    seen[index].mine = mine++;
    seen[index].argument = index;
}

static void leave(int status) {
    ADD(seen[3].argument, 1);
    thread_exit((u32)status);
}

static void nest(int index) {
    spawn(&threads[index + 1], look, index);
    join(&threads[index + 1]);
}

void _start(void) {
    u32 process = 0, self = 0, count = 0;
    proc_id(&process);
    thread_id(&self);
    print("the first thread is the process: %d\n", self == process && self);
    for (int i = 0; i < 2; i++) {
        print("spawn: %d, ", spawn(&threads[i], look, i));
        print("join: %d\n", join(&threads[i]));
        print("numbers: %d, process %d, ", seen[i].own == threads[i].number && seen[i].given == seen[i].own, seen[i].process == process);
        print("argument %d, thread-local %d\n", seen[i].argument, seen[i].mine);
    }
    print("numbers differ: %d\n", threads[0].number != threads[1].number && threads[0].number != self && threads[1].number != self);
    print("the first one's: %d\n", mine);
    spawn(&threads[0], leave, 7);
    print("left early: %d", join(&threads[0]));
    print(" %d\n", seen[3].argument);
    spawn(&threads[0], nest, 2);
    print("a thread's thread: %d", join(&threads[0]));
    print(" %d, number %d\n", seen[2].argument, seen[2].own == threads[3].number);
    print("join who has ended: %d, nobody: %d %d\n", join(&threads[1]), thread_join(1000), thread_join(0));
    print("parallelism: %d", thread_parallelism(&count));
    print(" %d\n", count > 0);
    u32 number;
    print("outside: %d %d %d %d\n", thread_id(OUTSIDE), proc_id(OUTSIDE), thread_parallelism(OUTSIDE), thread_spawn_v2(OUTSIDE, &number));
    proc_exit2(0);
}
