#include "shapes.hpp"

Shape::~Shape() {}

int Square::area() const { return side * side; }

std::string Square::name() const { return "a square of side " + std::to_string(side); }

std::unique_ptr<Shape> make_square(int side) {
    Count<Shape>::of()++;
    return std::make_unique<Square>(side);
}
