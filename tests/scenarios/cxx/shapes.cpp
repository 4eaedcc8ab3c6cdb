#include "shapes.hpp"

#include <new>

int alive;

Shape::~Shape() { alive -= 1; }
Square::Square(int s) : side(s) { alive += 1; }
Square::~Square() {}
int Square::area() const { return side * side; }
const char *Square::name() const { return "square"; }

Shape *make_square(int side) { return new Square(side); }
void each(Shape *const *shapes, int count, Visitor &visitor) {
    for (int i = 0; i < count; i++)
        visitor.visit(*shapes[i]);
}
bool is_square(const Shape *shape) { return dynamic_cast<const Square *>(shape) != nullptr; }
int registry_add(int n) { return Registry<int>::count() += n; }
