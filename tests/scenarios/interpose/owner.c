/* Has its own definition, but an address taken goes through the scope as in any other module. */
int who(void) { return 9; }
int tag = 9;
int owner_by_pointer(void) {
    int (*volatile pointer)(void) = who; /* volatile: the call goes through the pointer, whatever the compiler knows */
    return pointer();
}
int owner_tag(void) { return tag; }
