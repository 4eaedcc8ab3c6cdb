/* rendezvous: groups that run, park, lead, time out, die and are replaced, with random delays.
 * No guest runs before it has replayed, every group replays the same operations in the same order,
 * and no thread waits forever.
 *
 *     ./test_rendezvous_stress                        a short one; prints its seed
 *     ./test_rendezvous_stress SEED SECONDS GROUPS    the same seed makes the same choices */
#include "program.h"

enum { MOST_GROUPS = 256 };

struct life {
    struct member member; /* first: a pointer to it is one to the life */
    pthread_t thread;
    uint64_t token; /* of its parent, handed over; 0: its parent has made its group */
    uint64_t chance;
    atomic_int is_started; /* `thread` is set */
    atomic_int is_gone;
};

static struct {
    uint64_t seed;
    double seconds;
    unsigned groups;
    unsigned rate;                   /* of the delays: one in so many steps */
    struct life *lives[MOST_GROUPS]; /* under the token */
    uint64_t born;                   /* under the token */
    uint64_t withdrawn, died;        /* under the token */
    atomic_int living;               /* groups that are not dead */
    atomic_int threads;
    atomic_int is_over;
} stress = {.seconds = 3, .groups = 8};

static void *live(void *argument);

static struct life *new_life(void) {
    struct life *life = (calloc)(1, sizeof *life);
    CHECK(life != NULL);
    life->chance = random_seed(stress.seed, ++stress.born);
    life->member.is_eager = random_below(&life->chance, 4) != 0;
    return life;
}

static void start_life(struct life *life) {
    atomic_fetch_add(&stress.threads, 1);
    life->thread = thread_start(live, life);
    atomic_store(&life->is_started, 1);
}

static void check_invariant(struct life *self) {
    CHECK(state_of(&self->member) == PL_RUNNING);
    uint64_t newest = atomic_load(&returned);
    CHECK(pl_group_applied(self->member.group) >= newest);
}

static void spin(struct life *self, unsigned most) {
    for (volatile unsigned spins = random_below(&self->chance, most); spins != 0; spins--) {
    }
}

/* Blocks in the host, parked. */
static void block(struct life *self) {
    struct timespec time = {.tv_sec = 0, .tv_nsec = random_below(&self->chance, MILLISECOND / 2)};
    nanosleep(&time, NULL);
}

static void lead_some(struct life *self) {
    uint64_t token;
    CHECK(take_both(&self->member, &token) == PL_ACQUIRED);
    static const int64_t timeouts[] = {0, MILLISECOND / 10, 5 * MILLISECOND};
    unsigned dice = random_below(&self->chance, 12);
    int64_t timeout = dice < 3 ? timeouts[dice] : -1;
    int result = rendezvous(&self->member, random_next(&self->chance) | 2, timeout);
    CHECK(result == PL_ACQUIRED || (result == PL_TIMEOUT && timeout >= 0));
    stress.withdrawn += result == PL_TIMEOUT;
    release_token(token);
}

/* Guest code: never stale. It calls what blocks, which may call guest code again; it may lead;
 * and it may be the end of the group. Returns 0 if it was. */
static int run_guest(struct life *self, int depth) {
    pl_group *group = self->member.group;
    pl_safepoint *safepoint = pl_group_safepoint(group);
    int before = pl_safepoint_run(safepoint);
    CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED);
    for (unsigned steps = random_below(&self->chance, 30); steps != 0; steps--) {
        check_invariant(self);
        unsigned dice = random_below(&self->chance, 40);
        if (dice < 6) {
            int running = pl_safepoint_park(safepoint);
            if (dice < 2) {
                block(self);
            } else if (dice == 2 && depth < 3 && !run_guest(self, depth + 1)) {
                return 0;
            }
            pl_safepoint_restore(safepoint, running);
            CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED);
        } else if (dice == 6) {
            /* Mostly by a host call. One that stays RUNNING makes others wait for its pauses, so
             * these are short. */
            int stays = self->member.is_eager && random_below(&self->chance, 8) == 0;
            int running = stays ? PL_RUNNING : pl_safepoint_park(safepoint);
            lead_some(self);
            pl_safepoint_restore(safepoint, running);
            CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED);
        } else if (dice == 7 && depth == 0 && random_below(&self->chance, 8) == 0) {
            if (atomic_fetch_sub(&stress.living, 1) > 1) {
                pl_safepoint_die(safepoint);
                return 0;
            }
            atomic_fetch_add(&stress.living, 1); /* the last one stays */
        } else {
            spin(self, dice == 8 ? 50000 : 200); /* now and then too long for a leader's patience */
            if (pl_flag_load(pl_shared_flag(shared), PL_RELAXED)) {
                CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED);
            }
        }
    }
    pl_safepoint_restore(safepoint, before);
    return 1;
}

/* Frees the dead and makes others in their place: here, or in a thread that is handed the token. */
static void replace_the_dead(struct life *self) {
    uint64_t token;
    CHECK(take_both(&self->member, &token) == PL_ACQUIRED);
    struct life *child = NULL;
    for (unsigned i = 0; i < stress.groups && child == NULL; i++) {
        struct life *dead = stress.lives[i];
        if (atomic_load(&dead->is_gone)) {
            thread_join(dead->thread);
            pl_group_free(dead->member.group);
            free(dead);
            stress.died++;
            child = stress.lives[i] = new_life();
        }
    }
    if (child == NULL) {
        pl_rwlock_release_write(the_lock());
        release_token(token);
    } else if (random_below(&self->chance, 2)) {
        join_program(&child->member);
        pl_rwlock_release_write(the_lock());
        atomic_fetch_add(&stress.living, 1);
        start_life(child);
        release_token(token);
    } else {
        pl_rwlock_release_write(the_lock());
        child->token = token;
        start_life(child);
    }
}

static void be_born(struct life *self) {
    CHECK(pl_topology_holder(pl_shared_topology(shared)) == self->token);
    CHECK(pl_rwlock_write(the_lock(), pl_shared_cancel(shared), -1) == PL_ACQUIRED);
    join_program(&self->member);
    atomic_fetch_add(&stress.living, 1);
    pl_rwlock_release_write(the_lock());
    release_token(self->token);
}

static void *live(void *argument) {
    struct life *self = argument;
    AWAIT(atomic_load(&self->is_started));
    inject_delays(random_next(&self->chance), stress.rate);
    if (self->token != 0) {
        be_born(self);
    }
    int is_alive = 1;
    while (is_alive && !atomic_load(&stress.is_over)) {
        unsigned dice = random_below(&self->chance, 16);
        if (dice < 9) {
            is_alive = run_guest(self, 0);
        } else if (dice < 12) {
            lead_some(self);
        } else if (dice == 12) {
            replace_the_dead(self);
        } else if (dice == 13) {
            CHECK(pl_follow(self->member.group) == PL_ACQUIRED);
        } else {
            block(self);
        }
    }
    atomic_store(&self->is_gone, !is_alive);
    atomic_fetch_sub(&stress.threads, 1);
    return NULL;
}

static void begin_lives(void) {
    static const unsigned rates[] = {2, 8, 32, 256};
    stress.rate = rates[stress.seed % 4];
    set_up();
    atomic_store(&stress.living, (int)stress.groups);
    for (unsigned i = 0; i < stress.groups; i++) {
        stress.lives[i] = new_life();
        join_program(&stress.lives[i]->member);
    }
    /* no thread reads the lives before all are created */
    uint64_t token = pl_topology_try_acquire(pl_shared_topology(shared));
    for (unsigned i = 0; i < stress.groups; i++) {
        start_life(stress.lives[i]);
    }
    release_token(token);
}

static void end_lives(void) {
    atomic_store(&stress.is_over, 1);
    AWAIT(atomic_load(&stress.threads) == 0);
    uint64_t newest = published(), digest = entries[newest].digest;
    int living = 0;
    for (unsigned i = 0; i < stress.groups; i++) {
        struct life *life = stress.lives[i];
        thread_join(life->thread);
        if (!atomic_load(&life->is_gone)) {
            CHECK(state_of(&life->member) == PL_PARKED &&
                  pl_follow(life->member.group) == PL_ACQUIRED);
            CHECK(pl_group_applied(life->member.group) == newest && life->member.digest == digest);
            living++;
        }
        pl_group_free(life->member.group);
        free(life);
    }
    CHECK(living == atomic_load(&stress.living) && living > 0);
    CHECK(cause() == 0 && newest > 0 && pl_bus_sent(pl_shared_barriers(shared)) == newest);
    CHECK(pl_rwlock_readers(the_lock()) == 0 &&
          pl_topology_holder(pl_shared_topology(shared)) == 0);
    CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0 && sleepers() == 0);
    tear_down(NULL, 0);
    printf("%llu operations, %llu withdrawn, %llu groups died\n", (unsigned long long)newest,
           (unsigned long long)stress.withdrawn, (unsigned long long)stress.died);
}

static void test_stress(void) {
    begin_lives();
    int64_t end = pl_deadline((int64_t)(stress.seconds * 1e9));
    struct timespec moment = {.tv_sec = 0, .tv_nsec = 5 * MILLISECOND};
    while (pl_now() < end) {
        nanosleep(&moment, NULL);
    }
    end_lives();
}

int main(int count, char **arguments) {
    stress.seed = (uint64_t)time(NULL);
    if (count == 4) {
        stress.seed = strtoull(arguments[1], NULL, 10);
        stress.seconds = strtod(arguments[2], NULL);
        stress.groups = (unsigned)strtoul(arguments[3], NULL, 10);
    }
    CHECK(stress.groups > 0 && stress.groups <= MOST_GROUPS);
    snprintf(check_note, sizeof check_note, ", to repeat: test_rendezvous_stress %llu %g %u",
             (unsigned long long)stress.seed, stress.seconds, stress.groups);
    puts(check_note + 2);
    check_begin((unsigned)stress.seconds);
    RUN(test_stress);
    return 0;
}
