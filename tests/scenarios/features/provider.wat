;; A function with a parameter of every type that can cross modules.
(module
  (@dylink.0 (mem-info (memory 0 0)))
  (func (export "mix") (param i32 i64 f32 f64 v128 externref funcref) (result f64 i64)
    local.get 0
    f64.convert_i32_s
    local.get 1
    f64.convert_i64_s
    f64.add
    local.get 2
    f64.promote_f32
    f64.add
    local.get 3
    f64.add
    local.get 4
    i64x2.extract_lane 1
    local.get 5
    ref.is_null
    i64.extend_i32_u
    i64.add
    local.get 6
    ref.is_null
    i64.extend_i32_u
    i64.add))
