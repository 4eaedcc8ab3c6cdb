/* Has its own definition, but an address taken goes through the scope as in any other module. */
int who(void) { return 9; }
int tag = 9;
int owner_by_pointer(int (**function)(void)) {
    *function = who;
    return (*function)();
}
int owner_tag(void) { return tag; }
