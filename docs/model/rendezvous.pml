/* The rendezvous of pylinker's instance groups. README.md says what is claimed, what each name is in C, and how to run this.

   spin -a rendezvous.pml && cc -O2 -DSAFETY -DNOFAIR -o pan pan.c && ./pan -m1000000        (assertions and deadlocks)

   Sizes
     NG        places for groups
     FOUNDERS  groups that are there from the start; if there are fewer than NG, the last place is for a group that is spawned
     OPS       operations that are led in the whole run
   Switches, each a run of its own
     CANCEL    somebody outside cancels the linker at some moment
     REAPER    somebody outside declares one group of this set (a number, bit by bit) dead at some moment
     UNLEASED  the write lock is also taken without the token: by a group that leaves, and by one that changes what nobody replays
   Without CANCEL and REAPER nothing from outside ever helps a group that is stuck, so these two do not hide a deadlock. */
#ifndef NG
#define NG 3
#endif
#ifndef FOUNDERS
#define FOUNDERS 2
#endif
#ifndef OPS
#define OPS 2
#endif

#define BIT(g) (1 << (g))

mtype = { ABSENT, PARK, RUN, DEAD };                       /* a group: not in the list, pl_safepoint's three states */
mtype = { IDLE, GUEST, BIRTH, LEAD, SPAWN, WAIT, WRITE, FINISH };  /* what a thread does once nothing is pending */
mtype = { UNBORN, WANTED, HANDED, BORN };                  /* the group that is spawned */

/* The protocol's state. One access is one step, unless a comment says why more is. */
bool flag;
byte cur;                 /* barriers: sent */
byte published;           /* operations: sent */
mtype state[NG];
byte arrived[NG];         /* barriers: taken */
byte applied[NG];         /* operations: taken */
byte owed[NG];            /* operations: owed; under the write lock */
byte remembered;          /* set of groups; under the write lock and the leader's read lock */
byte listed;              /* the list of groups, as the leader walks it */
bool timed;               /* the leader does not wait for ever at the first barrier */
byte holder;              /* of the token: a group + 1, or 0 */
byte writer, readers;     /* of LinkerState: a group + 1, or 0 */
bool aborted;

/* The world around it. */
mtype child;
byte started;             /* operations somebody wanted to lead */
byte done;                /* threads that want nothing any more */

/* What is claimed about; no step of the protocol reads it. */
byte real;                /* the newest operation that does something */
byte content[NG];         /* the operations that are in the group's instances in fact */
byte forgotten;           /* the newest operation that the log has dropped */

/* Comes to the barrier that is up. The number may have moved on between the two steps. */
inline arrive() {
  seen = cur;
  d_step { arrived[me] = seen; seen = 0 }
}

/* pl_group_catch_up. Under a lock: nobody publishes, and nobody but a leader in its second barrier looks at `applied`. */
inline replay() {
  atomic {
    if
    :: state[me] == DEAD                                   /* the log may have dropped what it missed */
    :: state[me] != DEAD ->
       assert(content[me] == applied[me]);                 /* each operation once, in order */
       assert(applied[me] == published || applied[me] >= forgotten);
       applied[me] = published;
       content[me] = published
    fi
  }
}

/* pl_bus_try_broadcast(operations). One step: under the write lock nobody reads `owed`, and `applied` only grows. */
inline broadcast(expected) {
  g = 0;
  do
  :: g == NG -> break
  :: g < NG ->
     assert(owed[g] <= applied[g]);                        /* one message deep: the bus is never full */
     if
     :: expected & BIT(g) -> owed[g] = cur
     :: else
     fi;
     g++
  od;
  g = 0;
  published = cur
}

/* pl_log_forget(applied_by_all). One step: under the write lock nobody replays, and a group that dies meanwhile would only allow more. */
inline forget() {
  oldest = published;
  g = 0;
  do
  :: g == NG -> break
  :: g < NG ->
     if
     :: state[g] != ABSENT && state[g] != DEAD && applied[g] < oldest -> oldest = applied[g]
     :: else
     fi;
     g++
  od;
  if
  :: oldest > forgotten -> forgotten = oldest
  :: else
  fi;
  oldest = 0;
  g = 0
}

/* The leader's next group, or NG. */
inline next(set) {
  do
  :: g < NG && !(set & BIT(g)) -> g++
  :: else -> break
  od
}

inline write_lock() {
  if
  :: aborted -> goto end_out
  :: atomic { writer == 0 && readers == 0 -> writer = me + 1 }
  fi
}

/* The token is released once, by whom it was handed to. */
inline release_token() {
  assert(holder == me + 1);
  holder = 0
}

/* Back to where the thread was. */
inline resume() {
  if
  :: state[me] == RUN -> job = GUEST; goto guest
  :: state[me] != RUN -> job = IDLE; goto host
  fi
}

proctype group(byte me) {
  byte g, seen, oldest;
  mtype job;

  atomic {
    job = IDLE;
    if
    :: me < FOUNDERS -> goto host
    :: else -> goto end_unborn
    fi
  }

progress_host:
host:                                                      /* outside guest code */
  if
  :: aborted -> goto end_out
  :: state[me] == DEAD -> goto leave
  :: atomic { state[me] == PARK -> state[me] = RUN; job = GUEST; goto safepoint }
  :: atomic { state[me] == PARK -> state[me] = DEAD; goto leave } /* exits */
  :: atomic { state[me] == PARK && started < OPS -> started++; job = LEAD; goto token }
  :: atomic { state[me] == PARK && FOUNDERS < NG && child == UNBORN -> child = WANTED; done--; job = SPAWN; goto token }
#ifdef UNLEASED
  :: atomic { state[me] == PARK -> job = WRITE; goto write }
#endif
  :: atomic { state[me] == PARK -> done++; goto retire }
  fi;

progress_guest:
guest:                                                     /* guest code, for as long as it likes */
  if
  :: aborted -> goto end_out
  :: assert(aborted || state[me] == DEAD || content[me] >= real); goto guest
  :: flag -> goto follow                                   /* the hot path: the flag alone */
  :: atomic { state[me] == DEAD -> job = IDLE; goto leave }
  :: atomic { state[me] == RUN -> state[me] = PARK; job = IDLE; goto host }
  :: atomic { state[me] == RUN -> state[me] = DEAD; job = IDLE; goto leave } /* traps */
  :: atomic { state[me] == RUN && started < OPS -> started++; job = LEAD; goto token }
  :: atomic { state[me] == RUN && FOUNDERS < NG && child == UNBORN -> child = WANTED; done--; job = SPAWN; goto token }
#ifdef UNLEASED
  :: atomic { state[me] == RUN -> job = WRITE; goto write }
#endif
  fi;

safepoint:                                                 /* pl_group_is_behind: the flag, then the number */
#ifdef REAPER
  if
  :: aborted -> goto end_out
  :: state[me] != DEAD
  :: atomic {
       state[me] == DEAD ->                                /* nothing to follow, and no way into guest code */
       if
       :: job == GUEST -> job = IDLE; goto leave
       :: job == BIRTH -> child = BORN; job = IDLE; goto leave
       :: job == LEAD || job == SPAWN -> goto token
       :: job == WAIT -> goto waiting
       :: job == WRITE -> goto write
       :: job == FINISH -> goto end_out
       fi
     }
  fi;
#endif
  if
  :: aborted -> goto end_out
  :: flag -> goto follow
  :: !flag ->
     if
     :: applied[me] < published -> goto follow
     :: atomic {
          applied[me] >= published ->
          if
          :: job == GUEST -> goto guest
          :: job == BIRTH -> child = BORN; job = GUEST; goto guest
          :: job == LEAD || job == SPAWN -> goto token
          :: job == WAIT -> goto waiting
          :: job == WRITE -> goto write
          :: job == FINISH -> goto finish
          fi
        }
     fi
  fi;

follow:                                                    /* follow_once */
  if
  :: flag -> arrive()
  :: else
  fi;
  do                                                       /* until what was announced is published */
  :: aborted -> goto end_out
  :: published >= arrived[me] -> break
  :: flag && arrived[me] != cur -> arrive()
  od;
  do                                                       /* a read lock, never blindly */
  :: aborted -> goto end_out
  :: atomic { writer == 0 -> readers++ } -> break
  :: flag && arrived[me] != cur -> arrive()                /* the next leader may be waiting for us */
  od;
  replay();
  atomic { assert(writer == 0); readers--; goto safepoint }

token:                                                     /* acquire_topology_token: cooperatively */
  if
  :: aborted -> goto end_out
  :: flag -> goto follow
  :: atomic {
       holder == 0 -> holder = me + 1;
       assert(aborted || !flag);                           /* whoever has the token has nothing to follow */
       if
       :: job == LEAD
       :: job == SPAWN -> goto hand_over
       fi
     }
  fi;

  write_lock();                                            /* may be blocking: see the assertion above */
  atomic {
    if
    :: state[me] == DEAD -> writer = 0; release_token(); job = IDLE; goto leave
    :: else
    fi;
    replay();                                              /* published while we were parked */
    forget();                                              /* pl_log_forget */
    assert(aborted || cur == published);                   /* pl_lead_open: no other barrier is up */
    g = 0;
    do
    :: g < NG ->
       if
       :: g != me && state[g] != ABSENT -> listed = listed | BIT(g)
       :: else
       fi;
       if
       :: state[g] == DEAD -> owed[g] = 0                  /* it was let go, and may never replay */
       :: else
       fi;
       g++
    :: else -> break
    od;
    g = 0;
    next(listed);
    arrived[me] = published + 1;                           /* read by leaders only */
    cur = published + 1;
    if
    :: timed = false
    :: timed = true
    fi
  }
  flag = true;
  do                                                       /* pl_lead_meet */
  :: aborted -> goto end_out                               /* also when everybody is here: the leader failed in between */
  :: g == NG -> break
  :: atomic { g < NG && arrived[g] >= cur -> remembered = remembered | BIT(g); g++; next(listed) }
  :: atomic { g < NG && (state[g] == PARK || state[g] == DEAD) -> g++; next(listed) }
  :: g < NG && state[g] == ABSENT -> assert(state[g] != ABSENT) /* never: it was freed */
  :: g < NG && timed -> goto withdraw                      /* the time is over */
  od;
  atomic { broadcast(remembered); real = cur }             /* pl_lead_publish: publish, */
  flag = false;                                            /* then clear */
  atomic {
    assert(content[me] + 1 == cur);                        /* it led on the newest state */
    applied[me] = cur;                                     /* read by leaders only */
    content[me] = cur;
    timed = false;
    assert(writer == me + 1 && readers == 0);
    writer = 0;                                            /* the downgrade has no gap */
    readers++;
    g = 0;
    next(remembered)
  }
  do                                                       /* pl_lead_finish */
  :: aborted -> goto end_out
  :: g == NG -> break
  :: atomic { g < NG && applied[g] >= cur -> g++; next(remembered) }
  :: atomic { g < NG && state[g] == DEAD -> g++; next(remembered) }
  :: g < NG && state[g] == ABSENT -> assert(state[g] != ABSENT) /* never: it was freed */
  od;
  atomic {                                                 /* a leader that returns: whoever was there and lives has it */
    g = 0;
    do
    :: g < NG ->
       assert(!(remembered & BIT(g)) || state[g] == DEAD || content[g] >= cur);
       g++
    :: else -> break
    od;
    g = 0;
    remembered = 0;
    listed = 0;
    readers--
  }
  atomic { release_token(); resume() }

withdraw:                                                  /* pl_lead_withdraw: an operation that does nothing */
  atomic { broadcast(0) }
  flag = false;
  atomic {
    assert(content[me] + 1 == cur);
    applied[me] = cur;
    content[me] = cur;
    timed = false;
    remembered = 0;
    listed = 0;
    writer = 0
  }
  atomic { release_token(); resume() }

hand_over:                                                 /* prepare_for_instance_group: what the child is built from */
  atomic {
    content[NG - 1] = published;
    holder = NG;
    child = HANDED;
    if
    :: job = WAIT
    :: resume()                                            /* does not wait for it */
    fi
  }
waiting:                                                   /* for the child to run: parked, or cooperatively */
  if
  :: aborted -> goto end_out
  :: flag -> goto follow
  :: atomic { state[me] == RUN -> state[me] = PARK; goto waiting }
  :: atomic { child != HANDED -> resume() }
  fi;

write:                                                     /* write_linker_state: cooperatively, without the token */
  if
  :: aborted -> goto end_out
  :: flag -> goto follow
  :: atomic { writer == 0 && readers == 0 -> writer = me + 1 }
  fi;
  replay();
  atomic { assert(writer == me + 1 && readers == 0); writer = 0; resume() }

leave:                                                     /* shutdown_instance_group: DEAD already, so nobody waits for us */
#ifndef UNLEASED
  if
  :: aborted -> goto end_out
  :: atomic { holder == 0 -> holder = me + 1 }
  fi;
#endif
  write_lock();
  atomic {                                                 /* pl_group_free */
    assert(writer == me + 1);
    state[me] = ABSENT;
    arrived[me] = 0;
    applied[me] = 0;
    owed[me] = 0;
    content[me] = 0
  }
  writer = 0;
  atomic {
#ifndef UNLEASED
    release_token();
#endif
    done++;
    goto end_out
  }

end_unborn:                                                /* create_instance_group, on the thread that has got the token */
  child == HANDED;
  if
  :: skip
  :: goto stillborn                                        /* its instances cannot be made */
  fi;
  write_lock();                                            /* ..._blocking_holding_topology: not a group yet, nobody waits for it */
  if
  :: atomic {                                              /* pl_group_new */
       assert(writer == me + 1);
       applied[me] = published;
       arrived[me] = cur;
       assert(content[me] == applied[me]);                 /* what it was built from is all there is */
       state[me] = PARK
     }
  :: writer = 0; goto stillborn                            /* no memory */
  fi;
  writer = 0;                                              /* guard before token */
  atomic { release_token(); job = BIRTH }
  atomic {
    if
    :: state[me] == PARK -> state[me] = RUN
    :: else
    fi;
    goto safepoint
  }
stillborn:
  atomic { release_token() }
  atomic { content[me] = 0; child = UNBORN; done++; goto end_unborn }

retire:                                                    /* parked for good, until everybody is */
  if
  :: aborted -> goto end_out
  :: done == NG
  fi;
  atomic {
    assert(aborted || (holder == 0 && writer == 0 && !flag));
    if
    :: state[me] == PARK -> state[me] = RUN
    :: else
    fi;
    job = FINISH;
    goto safepoint
  }
finish:                                                    /* everybody can catch up */
  assert(aborted || (content[me] == published && applied[me] == published && owed[me] <= published));
  if
  :: atomic { state[me] == RUN -> state[me] = PARK }
  :: state[me] != RUN
  fi;
end_out:
  false
}

#ifdef CANCEL
proctype canceller() {
  aborted = true
}
#endif

#ifdef REAPER
#define KILLS(g) ((REAPER & BIT(g)) && (state[g] == PARK || state[g] == RUN))
proctype reaper() {
end_reaper:
  if
  :: atomic { KILLS(0) -> state[0] = DEAD }
  :: atomic { KILLS(1) -> state[1] = DEAD }
#if NG > 2
  :: atomic { KILLS(2) -> state[2] = DEAD }
#endif
  fi
}
#endif

init {
  byte g;
  atomic {
    child = UNBORN;
    done = NG - FOUNDERS;
    g = 0;
    do
    :: g < NG ->
       if
       :: g < FOUNDERS -> state[g] = PARK
       :: else -> state[g] = ABSENT
       fi;
       run group(g);
       g++
    :: else -> break
    od;
    g = 0;
#ifdef CANCEL
    run canceller();
#endif
#ifdef REAPER
    run reaper();
#endif
  }
}
