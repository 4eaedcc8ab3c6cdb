;; What a reactor build exports: `_initialize` calls the constructors, which are exported too.
(module
  (@dylink.0 (mem-info (memory 4 2)))
  (import "env" "memory" (memory 0))
  (import "env" "__memory_base" (global $base i32))
  (global (export "count") i32 (i32.const 0))
  (func $constructors (export "__wasm_call_ctors")
    global.get $base
    global.get $base
    i32.load
    i32.const 1
    i32.add
    i32.store)
  (func (export "_initialize") call $constructors))
