(module
  (@dylink.0 (mem-info (memory 0 0)))
  (import "env" "mix" (func $mix (param i32 i64 f32 f64 v128 externref funcref) (result f64 i64)))
  (import "env" "mix_missing" (func $missing (param v128 externref) (result funcref)))
  (func (export "call") (result f64 i64)
    i32.const -1
    i64.const 1000
    f32.const 0.5
    f64.const 0.25
    v128.const i64x2 7 100
    ref.null extern
    ref.null func
    call $mix)
  (func (export "tail_call") (result f64 i64)
    i32.const 1
    i64.const 1
    f32.const 1
    f64.const 1
    v128.const i64x2 0 0
    ref.null extern
    ref.null func
    return_call $mix))
