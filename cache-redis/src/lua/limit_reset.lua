-- RESET  KEYS: limit
local held=redis.call('GET',KEYS[1])
if held and not string.find(held,'^[gfs]:[%d:]*$') and not string.find(held,'^l:') then return redis.error_reply('WRONGTYPE the key holds no limit') end
redis.call('DEL',KEYS[1])
return redis.status_reply('OK')
