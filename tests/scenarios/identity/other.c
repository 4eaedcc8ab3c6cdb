typedef int function(int);
function shared, from_main;
function *other_shared(void) { return shared; }
function *other_from_main(void) { return from_main; }
function *other_static = shared;
