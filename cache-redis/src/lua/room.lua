-- What full memory refuses must not cost the value that stands: SETRANGE of nothing asks, and writes nothing.
local room=redis.pcall('SETRANGE',KEYS[2],0,'')
if type(room)=='table' and room.err then return room end
