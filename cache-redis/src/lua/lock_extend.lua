-- EXTEND  KEYS: lock  ARGV: token, ttl ms  -> 1 | 0
if not held or holder~=ARGV[1] then return 0 end
ends=math.max(ends,now+tonumber(ARGV[2]))
-- first, since full memory does not refuse it, and after one write a script is refused none
keep(ends)
redis.call('HSET',K,'d',digits(ends))
return 1
