-- LOOK  ARGV: name  -> {what it holds, when it ends} | nil
local held,at=alive(ARGV[1])
return held and {held,at}
