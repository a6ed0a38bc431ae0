-- Numbers and publishes what was done before.
-- KEYS: seq, keys...  ARGV: verb, channel, node, ms, frame, stamp seen  -> {n, stored, removed}
local n=string.format('%.0f',number(KEYS[1]))
local m={'i '..n..' '..ARGV[3]}
for i=2,#KEYS do m[i]=#KEYS[i]..':'..KEYS[i] end
redis.call(ARGV[1],ARGV[2],table.concat(m,' '))
return fault or {n,stored,removed}
