/* A parser of run-length text: "3a2b" is "aaabb". It has a mistake that C decoders are known for: it believes the lengths in the text,
 * and writes into a buffer of 16 bytes. Nothing here knows whether it is compiled for WebAssembly or for this machine. */

static struct {
    char text[16];
    int is_trusted; /* what lies behind the buffer: only its owner should change it */
} parser;

int is_trusted(void) {
    return parser.is_trusted;
}

/* Unpacks `packed`; answers the number of characters, or -1 for text that makes no sense. */
int unpack(const char *packed) {
    volatile char *out = parser.text; /* volatile: else the loop becomes a call of memset, which would have to come from somewhere */
    int total = 0;
    while (*packed) {
        int times = 0;
        if (*packed < '0' || *packed > '9') return -1;
        while (*packed >= '0' && *packed <= '9') times = 10 * times + (*packed++ - '0');
        if (!*packed) return -1;
        for (int i = 0; i < times; i++) *out++ = *packed; /* the mistake */
        packed++;
        total += times;
    }
    *out = 0;
    return total;
}

const char *unpacked(void) {
    return parser.text;
}
