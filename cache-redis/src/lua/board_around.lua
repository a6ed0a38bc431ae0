-- AROUND  ARGV: order, member, how many before it, how many after it  -> nil if there is no such member
local at=rank(ARGV[2])
return at and range(math.max(0,at-ARGV[3]),at+ARGV[4])
