/* Lacks something; LACKS says what. */
#define DATA 1
#define POINTER 2
#define FUNCTION 3
#define WEAK 4

extern int absent_data;
int absent_function(void);
__attribute__((weak)) extern int weak_data;
__attribute__((weak)) int weak_function(void);

int present(void) { return 4; }

#if LACKS == DATA
int get(void) { return absent_data; }
#elif LACKS == POINTER
int (*get(void))(void) { return absent_function; }
#elif LACKS == FUNCTION
int get(void) { return absent_function(); }
#else
int get(void) { return 10 * (&weak_data != 0) + (weak_function != 0); }
#endif
