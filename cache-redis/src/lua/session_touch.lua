-- TOUCH  ARGV: name, idle ms  -> {what it holds, when it ends} | nil
trim()
local held=alive(ARGV[1])
if not held then return held end
local at=prolonged(held,ARGV[2])
-- a write that full memory does not refuse, so that it refuses none of this, which takes no room
keep()
redis.call('ZADD',I,at,ARGV[1])
keep()
return {held,at}
