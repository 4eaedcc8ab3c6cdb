;; Functions of types that C does not have.
(module
  (@dylink.0 (mem-info))
  (func (export "every") (param i32 i64 f32 f64 v128) (result v128 f64 f32 i64 i32)
    local.get 4 local.get 3 local.get 2 local.get 1 local.get 0)
  (func (export "two") (param i32) (result i32 i32) local.get 0 local.get 0 i32.const 1 i32.add)
  (func (export "reference") (param i32 externref) (result i32) local.get 0))
