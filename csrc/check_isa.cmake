# Fails unless the objects compiled for one ISA level define their tables and nothing else. A function that the
# linker could share (an inline function, a template of a library) would run AVX-512 code on every processor.
# Called with -DNM=... -DISA=v4 -DOBJECTS=a.o,b.o
string(REPLACE "," ";" objects "${OBJECTS}")
foreach(object IN LISTS objects)
  execute_process(
    COMMAND ${NM} -g --defined-only ${object}
    OUTPUT_VARIABLE symbols
    COMMAND_ERROR_IS_FATAL ANY
  )
  string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
  foreach(line IN LISTS lines)
    if(NOT line MATCHES " [RDS] _?[a-z0-9_]+_${ISA}$")
      message(FATAL_ERROR "${object} defines more than its table for ${ISA}: ${line}")
    endif()
  endforeach()
endforeach()
