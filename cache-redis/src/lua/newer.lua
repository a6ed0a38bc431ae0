-- PUT if the row is newer, else nothing at all; put.lua follows
local h=value(KEYS[2])
if h and struct.unpack('<I4',string.sub(h,45,48))>=struct.unpack('<I4',string.sub(ARGV[5],45,48)) then return {'0',0,0} end
