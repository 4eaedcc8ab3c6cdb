/* Built several times: ME is what the library answers. */
int who(void) { return ME; }
int tag = ME;
