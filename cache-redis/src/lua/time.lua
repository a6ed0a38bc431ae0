local function now() local t=redis.call('TIME'); return t[1]*1000+math.floor(t[2]/1000) end
local function text(n) return string.format('%.0f',n) end
local function deadline(h) return (struct.unpack('<I8',string.sub(h,25,32))) end
