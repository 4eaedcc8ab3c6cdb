/* What the runtime of exceptions wants of a program that ends without words. */
void __abort_message(const char *format, ...) {
    (void)format;
    __builtin_trap();
}
