int measure(int a, int b) { return a * b; }
