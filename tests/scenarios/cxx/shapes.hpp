#pragma once

struct Shape {
    virtual int area() const = 0;
    virtual const char *name() const { return "shape"; }
    virtual ~Shape();
};

struct Square : Shape {
    explicit Square(int side);
    int area() const override;
    const char *name() const override;
    ~Square() override;
    int side;
};

struct Visitor {
    virtual void visit(const Shape &shape) = 0;
};

struct Tracked {
    explicit Tracked(int id);
    ~Tracked();
    int id;
};

extern int alive;
Shape *make_square(int side);
void each(Shape *const *shapes, int count, Visitor &visitor);
bool is_square(const Shape *shape);

template <typename T>
struct Registry { /* an inline static: one object in the whole program, whichever module it is used in */
    static int &count() {
        static int value;
        return value;
    }
};
int registry_add(int n);
