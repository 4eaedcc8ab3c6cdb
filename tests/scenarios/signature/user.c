int area(double radius);
int ask(double radius) { return area(radius); }
