#pragma once
#include <memory>
#include <string>
#include <vector>

struct Shape {
    virtual ~Shape();
    virtual int area() const = 0;
    virtual std::string name() const = 0;
};

/* In libshapes.so */
struct Square : Shape {
    explicit Square(int side) : side(side) {}
    int area() const override;
    std::string name() const override;
    int side;
};
std::unique_ptr<Shape> make_square(int side);

/* In libreport.so, which needs libshapes.so */
struct Report {
    void add(const Shape &shape);
    std::string text() const;
    std::vector<std::string> lines;
    int total = 0;
};

/* One object in the whole program, whichever module it is used in. */
template <typename T> struct Count {
    static int &of() {
        static int value;
        return value;
    }
};
