-- numbers and publishes what was done  KEYS, ARGV: as in publish.lua  -> n
local function tell()
  local n=string.format('%.0f',number(KEYS[1]))
  local m={'i '..n..' '..ARGV[3]}
  for i=2,#KEYS do m[i]=#KEYS[i]..':'..KEYS[i] end
  redis.call(ARGV[1],ARGV[2],table.concat(m,' '))
  return n
end
