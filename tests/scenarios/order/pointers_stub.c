/* Only for the linker. */
int (*late_pointer)(void);
