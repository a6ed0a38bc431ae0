-- RENEW  KEYS: key  ARGV: token, span ms  -> 1 | 0
local st=held(KEYS[1],ARGV[1])
if not st then return 0 end
if st=='L' then return redis.call('PEXPIRE',KEYS[1],ARGV[2]) end
patch(KEYS[1],24,struct.pack('<I8',now()+tonumber(ARGV[2])))
return 1
