/* Data of every shape that another module may use. */
struct node {
    int value;
    struct node *next;
};

int counter = 7;
int zeroed[1000];
double ratio = 2.5;
long long wide = 0x123456789abcdef0;
const char *title = "numbers";
char block[64] __attribute__((aligned(256))) = "aligned";
struct node second = {2, 0};
struct node first = {1, &second}; /* a pointer to this library's own exported data */
int *counter_pointer = &counter;

void bump(int by) { counter += by; }
