-- STANDING  ARGV: order, member  -> {how many stand before it, member, score} | nil
local at=rank(ARGV[2])
return at and range(at,at)
