#include <cstdio>
#include <typeinfo>

#include "shapes.hpp"

struct Circle : Shape { // derived in the program from a class of a library
    int area() const override { return 3; }
    std::string name() const override { return "a circle"; }
};

struct Frame : Square { // and one that calls what it overrides, across the modules
    Frame() : Square(10) {}
    int area() const override { return Square::area() - 64; }
};

int main() {
    std::unique_ptr<Shape> square = make_square(5);
    Circle circle;
    Frame frame;
    Report report;
    for (const Shape *shape : {static_cast<const Shape *>(square.get()), static_cast<const Shape *>(&circle), static_cast<const Shape *>(&frame)})
        report.add(*shape);
    std::puts(report.text().c_str());
    const Shape &made = *square;
    std::printf("typeid: %s\n", typeid(made) == typeid(Square) ? "a Square" : "something else");
    Count<Shape>::of() += 10;
    make_square(1);
    std::printf("counted in both modules: %d\n", Count<Shape>::of());
}
