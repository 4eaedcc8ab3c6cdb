/* Pointers in static data to what other modules define. */
struct node {
    int value;
    struct node *next;
};

extern int counter, zeroed[1000], main_value;
extern struct node first;

int *borrowed = &counter;
int *inside = &zeroed[10];
int *main_pointer = &main_value;
struct node zeroth = {0, &first};

int total(void) {
    int sum = *borrowed + *inside + *main_pointer;
    for (struct node *each = &zeroth; each; each = each->next)
        sum += each->value;
    return sum;
}
