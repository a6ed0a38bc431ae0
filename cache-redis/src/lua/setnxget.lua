-- LEASE for servers whose SET has no NX with GET  KEYS: key  ARGV: lease frame, span ms
-- -> nil granted | what the key holds
if redis.call('SET',KEYS[1],ARGV[1],'NX','PX',ARGV[2]) then return false end
return redis.call('GET',KEYS[1])
