typedef int function(int);
int shared(int x) { return x + 1; }
function *owner_shared(void) { return shared; }
function *owner_static = shared;
