-- BEAT  KEYS: seq  -> {number or nil, created, server ms}
-- PEXPIRE is what only a writable primary answers, and what full memory does not refuse.
local created=0
if redis.call('PEXPIRE',KEYS[1],MONTH)==0 and create(KEYS[1]) then created=1 end
local t=redis.call('TIME')
return {redis.call('GET',KEYS[1]),created,string.format('%.0f',t[1]*1000+math.floor(t[2]/1000))}
