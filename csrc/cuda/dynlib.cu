// Finds and opens cuBLAS and cuDNN: see dynlib.h. A folder's own file comes first, by its absolute path,
// since a bare name may pick a foreign version; then what the system's loader knows.
#include "dynlib.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <mutex>
#include <vector>

namespace needle {
namespace {

struct Library {
  const char* title;
  std::vector<const char*> files;  // the newest first
  void* handle = nullptr;
  std::string path, why;  // where it was found, or why it is not used
  bool tried = false;
};

std::mutex lock;
std::vector<std::string> folders;
bool allowed = false;

Library blas_library{"cuBLAS", {"libcublas.so.13", "libcublas.so.12"}, nullptr, "", "", false};
Library dnn_library{"cuDNN", {"libcudnn.so.9"}, nullptr, "", "", false};
Cublas blas_functions;
Cudnn dnn_functions;

bool exists(const std::string& path) {
  FILE* const file = fopen(path.c_str(), "rb");
  if (file) fclose(file);
  return file != nullptr;
}

struct Symbol {
  const char* name;
  void** place;
};

// Takes the library if it can be opened and has all symbols.
bool take(Library& library, const std::string& path, const std::vector<Symbol>& symbols) {
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    library.why = dlerror();
    return false;
  }
  for (const Symbol& symbol : symbols) {
    *symbol.place = dlsym(handle, symbol.name);
    if (*symbol.place) continue;
    library.why = path + " has no function " + symbol.name;
    dlclose(handle);
    return false;
  }
  library.handle = handle;
  library.path = path;
  return true;
}

void find(Library& library, const std::vector<Symbol>& symbols) {
  for (const std::string& folder : folders) {
    for (const char* file : library.files) {
      const std::string path = folder + "/" + file;
      if (exists(path) && take(library, path, symbols)) return;
    }
  }
#ifndef NEEDLE_EMULATE  // whose memory is the host's
  const std::string before = library.why;
  for (const char* file : library.files) {
    if (take(library, file, symbols)) return;
  }
  if (!before.empty()) library.why = before;
#endif
  if (library.why.empty()) library.why = std::string(library.files[0]) + " not found";
}

// Whether the library is there, after having looked for it once.
bool ready(Library& library, const std::vector<Symbol>& symbols) {
  if (library.handle) return true;
  std::lock_guard<std::mutex> guard(lock);
  if (!allowed || library.tried) return library.handle != nullptr;
  library.tried = true;
  find(library, symbols);
  return library.handle != nullptr;
}

void give_up(Library& library, const std::string& why) {
  std::lock_guard<std::mutex> guard(lock);
  library.why = library.path + ": " + why;
  library.handle = nullptr;
}

std::string report(const Library& library, const std::string& version) {
  return library.handle ? library.title + (" " + version) + " from " + library.path
                        : std::string("no ") + library.title + " (" + library.why + ")";
}

// Versions are major * 10^4 + minor * 100 + patch.
std::string version_text(size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace

const Cublas* cublas() {
#define NEEDLE_SYMBOL(result, name, arguments) {#name, reinterpret_cast<void**>(&blas_functions.name)},
  return ready(blas_library, {NEEDLE_CUBLAS_FUNCTIONS(NEEDLE_SYMBOL)}) ? &blas_functions : nullptr;
#undef NEEDLE_SYMBOL
}

const Cudnn* cudnn() {
#define NEEDLE_SYMBOL(result, name, arguments) {#name, reinterpret_cast<void**>(&dnn_functions.name)},
  return ready(dnn_library, {NEEDLE_CUDNN_FUNCTIONS(NEEDLE_SYMBOL)}) ? &dnn_functions : nullptr;
#undef NEEDLE_SYMBOL
}

void give_up_cublas(const std::string& why) { give_up(blas_library, why); }
void give_up_cudnn(const std::string& why) { give_up(dnn_library, why); }

std::string libraries() {
  if (!allowed) return "own kernels alone";
  // cuBLAS tells its version by a handle alone: its file's name has to do.
  const Cublas* const blas = cublas();
  const Cudnn* const dnn = cudnn();
  const std::string major = blas ? blas_library.path.substr(blas_library.path.rfind('.') + 1) : "";
  return report(blas_library, major) + ", " +
         report(dnn_library, dnn ? version_text(dnn->cudnnGetVersion()) : "");
}

}  // namespace needle

using namespace needle;

// Where to look for libraries: folders, one a line; an empty text means wherever the system's loader finds
// them. Calls after the first op come too late for what was looked for before.
NEEDLE_EXPORT int32_t needle_device_libraries(const void* text, double length) noexcept;
NEEDLE_EXPORT int32_t needle_device_libraries(const void* text, double length) noexcept {
  std::lock_guard<std::mutex> guard(lock);
  const char* begin = static_cast<const char*>(text);
  const char* const end = begin + size_t(length);
  folders.clear();
  while (begin < end) {
    const void* const found = memchr(begin, '\n', size_t(end - begin));
    const char* const stop = found ? static_cast<const char*>(found) : end;
    if (stop > begin) folders.emplace_back(begin, stop);
    begin = stop + 1;
  }
  allowed = true;
  return kOk;
}
