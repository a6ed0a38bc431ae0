-- Numbers and publishes what was done before.
-- KEYS: seq, keys...  ARGV: verb, channel, node, ms, frame, stamp seen
-- -> {n, fate of a value that was to be stored: 0 not, 1 stored, 2 what stood was kept, removed}
local n=tell()
return fault or {n,stored,removed}
