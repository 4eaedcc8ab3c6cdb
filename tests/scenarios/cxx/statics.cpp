/* Static objects with constructors and destructors: they leave their marks in the order of their construction. */
extern "C" char trace[64];
extern "C" int length;
char trace[64];
int length;

struct Mark {
    explicit Mark(char m) : mark(m) { trace[length++] = mark; }
    ~Mark() { trace[length++] = mark + 'a' - 'A'; }
    char mark;
};

static Mark first('A');
static Mark second('B');
extern "C" int touch() {
    static Mark on_demand('C'); /* constructed at the first call only */
    return on_demand.mark;
}
