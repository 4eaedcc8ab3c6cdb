#include <stdint.h>
#include <stdio.h>

struct node {
    int value;
    struct node *next;
};

extern int counter, zeroed[1000];
extern double ratio;
extern long long wide;
extern const char *title;
extern char block[64];
extern int *counter_pointer, *borrowed, *inside, *main_pointer;
extern struct node zeroth;
void bump(int by);
int total(void);

int main_value = 1000;
int *const main_inside = &zeroed[20];

int main(void) {
    int sum = 0;
    for (int i = 0; i < 1000; i++)
        sum += zeroed[i];
    printf("zeroed %d\n", sum);
    printf("ratio %.2f wide %llx title %s\n", ratio, wide, title);
    printf("block %s %d\n", block, (int)((uintptr_t)block % 256));
    bump(3);
    counter += 10;
    printf("counter %d %d %d\n", counter, *counter_pointer, *borrowed);
    printf("same %d\n", counter_pointer == &counter && borrowed == &counter && main_pointer == &main_value);
    *inside = 5;
    *main_inside = 6;
    printf("inside %d %d\n", zeroed[10], zeroed[20]);
    for (struct node *each = &zeroth; each; each = each->next)
        printf("node %d\n", each->value);
    printf("total %d\n", total());
    return 0;
}
