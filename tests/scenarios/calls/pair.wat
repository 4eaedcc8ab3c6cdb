(module
  (@dylink.0 (mem-info (memory 0 0)))
  (func (export "swap") (param i32 i64) (result i64 i32)
    local.get 1
    local.get 0)
  (func (export "divide") (param i32 i32) (result i32 i32)
    local.get 0
    local.get 1
    i32.div_u
    local.get 0
    local.get 1
    i32.rem_u))
