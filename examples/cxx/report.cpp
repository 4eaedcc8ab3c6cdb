#include "shapes.hpp"

void Report::add(const Shape &shape) {
    bool known = dynamic_cast<const Square *>(&shape) != nullptr; // the type_info of another library
    lines.push_back(shape.name() + ", area " + std::to_string(shape.area()) + (known ? "" : ", not made of squares"));
    total += shape.area();
}

std::string Report::text() const {
    std::string all;
    for (const std::string &line : lines) all += line + "\n";
    return all + "in all " + std::to_string(total);
}
