;; Everything that runs at load leaves a digit in `steps`: the start function 1, relocations 2, constructors 3.
(module
  (@dylink.0 (mem-info (memory 4 2)))
  (import "env" "memory" (memory 0))
  (import "env" "__memory_base" (global $base i32))
  (global (export "steps") i32 (i32.const 0))
  (func $step (param i32)
    global.get $base
    global.get $base
    i32.load
    i32.const 10
    i32.mul
    local.get 0
    i32.add
    i32.store)
  (func $start i32.const 1 call $step)
  (func (export "__wasm_apply_data_relocs") i32.const 2 call $step)
  (func $constructors (export "__wasm_call_ctors") i32.const 3 call $step)
  (start $start))
