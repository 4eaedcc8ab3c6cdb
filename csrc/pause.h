/* pause: the spin-loop hint of the processor. Internal to the core: cffi does not see it.
 *
 * Protects: nothing.
 * Blocks: never.
 * Threads: any. */
#ifndef PL_PAUSE_H
#define PL_PAUSE_H

/* Tells the processor that this thread spins on a word. */
static inline void pl_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
