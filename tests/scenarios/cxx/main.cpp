#include <cstdio>
#include <memory>
#include <typeinfo>

#include "shapes.hpp"

struct Circle : Shape {
    Circle() { alive += 1; }
    int area() const override { return 3; }
};

struct Big : Square {
    Big() : Square(10) {}
    int area() const override { return 1000 + Square::area(); }
};

struct Sum : Visitor {
    void visit(const Shape &shape) override {
        total += shape.area();
        std::printf("%s %d %s\n", shape.name(), shape.area(), is_square(&shape) ? "is a square" : "is not");
    }
    int total = 0;
};

int main() {
    {
        std::unique_ptr<Shape> square(make_square(5));
        Circle circle;
        Big big;
        Shape *shapes[] = {square.get(), &circle, &big};
        Sum sum;
        each(shapes, 3, sum);
        std::printf("total %d\n", sum.total);
        std::printf("alive %d\n", alive);
        const Shape &made = *square;
        std::printf("type %d %d\n", typeid(made) == typeid(Square), typeid(made) == typeid(Big));
    }
    std::printf("alive %d\n", alive);
    Registry<int>::count() += 4;
    std::printf("registry %d\n", registry_add(10));
    return 0;
}
