// What metrics do with compiled code where there is a compiler. All results but means and covariances are the same to the
// last bit without it, because they follow from the numbers by comparisons, by single roundings in a stated order, and by
// whole numbers; roots are rounded once here, and by torch not always.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int LANES = 8, BLOCK = 4;  // vectors of so many numbers, so many of them at once
typedef double Doubles __attribute__((vector_size(LANES * sizeof(double)), aligned(alignof(double)), may_alias));
typedef int64_t Wholes __attribute__((vector_size(LANES * sizeof(int64_t))));
typedef float Floats __attribute__((vector_size(2 * LANES * sizeof(float)), aligned(alignof(float)), may_alias));
typedef int32_t Integers __attribute__((vector_size(2 * LANES * sizeof(int32_t))));

// ---- products of matrices, which may be contracted to fused operations, and so must not become parts of others -----

#define APART __attribute__((noinline))

constexpr int64_t HEIGHT = 8, WIDTH = 4 * LANES;  // of a tile whose sums stay in registers

// out (HEIGHT, columns) = start (columns) - left (inner, HEIGHT)^T right, columns a multiple of WIDTH and right
// (columns / WIDTH, inner, WIDTH), so that it is read from front to back
APART void remaining(int64_t columns, int64_t inner, const float* start, const float* left, const float* right,
                     float* out) {
  for (int64_t j = 0; j < columns; j += WIDTH) {
    Floats sums[HEIGHT][2];
    for (int r = 0; r < HEIGHT; ++r)
      for (int v = 0; v < 2; ++v) sums[r][v] = reinterpret_cast<const Floats*>(start + j)[v];
    for (int64_t k = 0; k < inner; ++k) {
      const Floats* const row = reinterpret_cast<const Floats*>(right + j * inner + k * WIDTH);
      for (int r = 0; r < HEIGHT; ++r)
        for (int v = 0; v < 2; ++v) sums[r][v] -= left[k * HEIGHT + r] * row[v];
    }
    for (int r = 0; r < HEIGHT; ++r)
      for (int v = 0; v < 2; ++v) reinterpret_cast<Floats*>(out + r * columns + j)[v] = sums[r][v];
  }
}

// Mean (d) and covariance (d, d), with n - 1 degrees of freedom, of points (n, d).
template <class T> APART void covariance_of(int64_t n, int64_t d, const T* x, double* mean, double* covariance) {
  constexpr int64_t MANY = 64, ACROSS = 2 * LANES;
  const int64_t wide = (d + ACROSS - 1) / ACROSS * ACROSS;
  std::vector<double> centred(MANY * wide), total(wide * wide);
  std::fill_n(mean, d, 0.0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < d; ++k) mean[k] += double(x[i * d + k]);
  for (int64_t k = 0; k < d; ++k) mean[k] /= double(n);
  for (int64_t first = 0; first < n; first += MANY) {
    const int64_t count = std::min(MANY, n - first);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < d; ++k) centred[i * wide + k] = double(x[(first + i) * d + k]) - mean[k];
    for (int64_t row = 0; row < wide; row += HEIGHT)
      for (int64_t column = row / ACROSS * ACROSS; column < wide; column += ACROSS) {
        Doubles sums[HEIGHT][2];
        for (int r = 0; r < HEIGHT; ++r)
          for (int v = 0; v < 2; ++v) sums[r][v] = reinterpret_cast<Doubles*>(&total[(row + r) * wide + column])[v];
        for (int64_t i = 0; i < count; ++i) {
          const Doubles* const right = reinterpret_cast<const Doubles*>(&centred[i * wide + column]);
          for (int r = 0; r < HEIGHT; ++r)
            for (int v = 0; v < 2; ++v) sums[r][v] += centred[i * wide + row + r] * right[v];
        }
        for (int r = 0; r < HEIGHT; ++r)
          for (int v = 0; v < 2; ++v) reinterpret_cast<Doubles*>(&total[(row + r) * wide + column])[v] = sums[r][v];
      }
  }
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = i; j < d; ++j)
      covariance[i * d + j] = covariance[j * d + i] = total[i * wide + j] / double(n - 1);
}

// ---- the rest rounds every operation by itself --------------------------------------------------------------------

#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC optimize("fp-contract=off")
#endif

// Squared distance to the nearest of m centres, the first of those equally near, and which it is. D is the number of
// coordinates, or 0 for any.
template <int D, class T>
void nearest_of(int64_t n, int64_t m, int64_t d, const T* x, const double* centres, double* square, int64_t* index) {
  constexpr int64_t MANY = LANES * BLOCK;
  if (D) d = D;
  std::vector<double> coordinates(d * MANY);
  for (int64_t first = 0; first < n; first += MANY) {
    const int64_t count = std::min(MANY, n - first);
    const T* const points = x + first * d;
    for (int64_t k = 0; k < d; ++k)
      if (count == MANY)
        for (int64_t b = 0; b < MANY; ++b) coordinates[k * MANY + b] = double(points[b * d + k]);
      else
        for (int64_t b = 0; b < count; ++b) coordinates[k * MANY + b] = double(points[b * d + k]);
    Doubles least[BLOCK] = {};
    Wholes which[BLOCK] = {};
    for (int64_t j = 0; j < m; ++j)
      for (int b = 0; b < BLOCK; ++b) {
        Doubles sum = {};
        for (int64_t k = 0; k < d; ++k) {
          Doubles apart;
          std::memcpy(&apart, &coordinates[k * MANY + b * LANES], sizeof apart);
          apart -= centres[j * d + k];
          sum = k ? sum + apart * apart : apart * apart;
        }
        const Wholes nearer = j ? sum < least[b] : Wholes{} - 1;
        least[b] = nearer ? sum : least[b];
        which[b] = nearer ? Wholes{} + j : which[b];
      }
    std::memcpy(square + first, least, count * sizeof(double));
    std::memcpy(index + first, which, count * sizeof(int64_t));
  }
}

template <class T>
void nearest_to(int64_t n, int64_t m, int64_t d, const T* x, const double* centres, double* square, int64_t* index) {
  const auto run = d == 1 ? nearest_of<1, T> : d == 2 ? nearest_of<2, T> : d == 3 ? nearest_of<3, T> : nearest_of<0, T>;
  run(n, m, d, x, centres, square, index);
}

// Of rows (m, d): their transpose in float about a centre, WIDTH rows after WIDTH rows, their halved squares, and the
// largest of their lengths.
struct Rows {
  template <class T>
  Rows(int64_t m, int64_t d, const T* rows) : d(d), columns((m + WIDTH - 1) / WIDTH * WIDTH), centre(d),
        transposed(d * columns), halves(columns, std::numeric_limits<float>::infinity()) {
    for (int64_t j = 0; j < m; ++j)
      for (int64_t k = 0; k < d; ++k) centre[k] += double(rows[j * d + k]);
    for (int64_t k = 0; k < d; ++k) centre[k] /= double(m);
    for (int64_t first = 0; first < m; first += LANES) {
      const int64_t count = std::min<int64_t>(LANES, m - first);
      double squares[LANES] = {};
      for (int64_t k = 0; k < d; ++k)
        for (int64_t j = 0; j < LANES; ++j) {
          const double apart = double(rows[(first + std::min(j, count - 1)) * d + k]) - centre[k];
          transposed[first / WIDTH * WIDTH * d + k * WIDTH + first % WIDTH + j] = float(apart);
          squares[j] += apart * apart;
        }
      for (int64_t j = 0; j < count; ++j) {
        halves[first + j] = float(squares[j] / 2);
        longest = std::max(longest, std::sqrt(squares[j]));
      }
    }
  }
  const int64_t d, columns;
  double longest = 0;
  std::vector<double> centre;
  std::vector<float> transposed, halves;
};

// Distance of points (n, d) to the nearest of rows (m, d), or to the nearest of those with another number. Which rows
// can be nearest follows from a product of matrices in float with all that it can err by; their distances are sums of
// squared differences in double, from the first coordinate to the last. False where squares overflow in float.
template <class T>
bool nearest_rows_of(int64_t n, int64_t m, const T* x, const T* rows, const Rows& about, bool others, double* found) {
  const int64_t d = about.d, columns = about.columns;
  const float infinite = std::numeric_limits<float>::infinity();
  std::vector<double> centred(d);
  std::vector<float> left(HEIGHT * d), some(HEIGHT * columns);
  for (int64_t first = 0; first < n; first += HEIGHT) {
    const int64_t count = std::min(HEIGHT, n - first);
    double lengths[HEIGHT] = {};
    for (int64_t r = 0; r < count; ++r) {
      const T* const point = x + (first + r) * d;
      for (int64_t k = 0; k < d; ++k) centred[k] = double(point[k]) - about.centre[k];
      for (int64_t k = 0; k < d; ++k) left[k * HEIGHT + r] = float(centred[k]);
      double sums[LANES] = {};
      for (int64_t k = 0; k < d; ++k) sums[k % LANES] += centred[k] * centred[k];
      for (int v = 0; v < LANES; ++v) lengths[r] += sums[v];
    }
    remaining(columns, d, about.halves.data(), left.data(), about.transposed.data(), some.data());
    for (int64_t r = 0; r < count; ++r) {
      float* const row = some.data() + r * columns;
      if (others) row[first + r] = infinite;
      Floats lowest = Floats{} + infinite;
      for (int64_t j = 0; j < columns; j += 2 * LANES) {
        const Floats part = *reinterpret_cast<const Floats*>(row + j);
        lowest = part < lowest ? part : lowest;
      }
      float least = infinite;
      for (int v = 0; v < 2 * LANES; ++v) least = std::min(least, lowest[v]);
      // d products and sums, and the roundings of the factors, each by half a unit in the last place
      const double length = std::sqrt(lengths[r]), size = length * about.longest + about.longest * about.longest / 2;
      const double error = (d + 8) * 0x1p-24 * size + 1e-36;
      if (!(size < 1e37)) return false;
      const float bound = float(double(least) + 2.1 * error);
      double nearest = std::numeric_limits<double>::infinity();
      const auto look = [&](int64_t j) {
        if (j >= m || (others && j == first + r)) return;
        double sum = 0;
        for (int64_t k = 0; k < d; ++k) {
          const double apart = double(x[(first + r) * d + k]) - double(rows[j * d + k]);
          sum += apart * apart;
        }
        nearest = std::min(nearest, sum);
      };
      Integers many = {}, last = {};  // how many are near in each place of a vector, and the number of the last such
      for (int64_t j = 0; j < columns; j += 2 * LANES) {
        const Integers near = *reinterpret_cast<const Floats*>(row + j) <= bound;
        many -= near, last = near ? Integers{} + int(j) : last;
      }
      // none is nearer than a copy: a generator that makes one point only would have all pairs looked at
      for (int v = 0; v < 2 * LANES && nearest > 0; ++v) {
        if (many[v] > 0) look(last[v] + v);
        for (int64_t j = v; many[v] > 1 && j < last[v] && nearest > 0; j += 2 * LANES)
          if (row[j] <= bound) look(j);
      }
      found[first + r] = std::sqrt(nearest);
    }
  }
  return true;
}

// For each row (k) which of its numbers is the largest, the first of those equally large.
template <class T> void largest_of(int64_t rows, int64_t k, const T* x, int64_t* index) {
  for (int64_t i = 0; i < rows; ++i) {
    T most = x[i * k];
    int64_t which = 0;
    for (int64_t j = 1; j < k; ++j) {
      const T value = x[i * k + j];
      which = value > most ? j : which;
      most = value > most ? value : most;
    }
    index[i] = which;
  }
}

// Of the points near enough to their nearest centre: how many each centre has, and the sum of their squared distances
// from their own mean. All sums go from the first point to the last.
template <class T>
void moments_of(int64_t n, int64_t m, int64_t d, const T* x, const double* square, const int64_t* index, double limit,
                const double* centres, int64_t* counts, double* squares) {
  std::vector<double> means(m * d);
  std::fill_n(counts, m, 0);
  std::fill_n(squares, m, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t j = index[i];
    if (!(square[i] <= limit)) continue;
    ++counts[j];
    for (int64_t k = 0; k < d; ++k) means[j * d + k] += double(x[i * d + k]) - centres[j * d + k];
  }
  for (int64_t j = 0; j < m; ++j)
    for (int64_t k = 0; k < d; ++k) means[j * d + k] /= double(std::max<int64_t>(counts[j], 1));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t j = index[i];
    if (!(square[i] <= limit)) continue;
    double sum = 0;
    for (int64_t k = 0; k < d; ++k) {
      const double apart = double(x[i * d + k]) - centres[j * d + k] - means[j * d + k];
      sum = k ? sum + apart * apart : apart * apart;
    }
    squares[j] += sum;
  }
}

}  // namespace

#define FOR_BOTH(NAME, CALL)                                                                                     \
  void NAME##_float(PARAMETERS(float)) { CALL }                                                                  \
  void NAME##_double(PARAMETERS(double)) { CALL }

extern "C" {

// Of trials, each with n points of d coordinates; x, square and index lie so far apart from one trial to the next.
#define PARAMETERS(T)                                                                                            \
  int64_t trials, int64_t n, int64_t m, int64_t d, int64_t apart, const T *x, const double *centres, double *square, \
      int64_t *index
FOR_BOTH(nearest, {
  for (int64_t t = 0; t < trials; ++t) nearest_to(n, m, d, x + t * apart, centres, square + t * n, index + t * n);
})
#undef PARAMETERS

#define PARAMETERS(T)                                                                                          \
  int64_t trials, int64_t n, int64_t m, int64_t d, int64_t apart, int64_t near_apart, const T *x, const double *centres, \
      const double *square, const int64_t *index, const double *limit, int64_t *counts, double *squares
FOR_BOTH(moments, {
  for (int64_t t = 0; t < trials; ++t)
    moments_of(n, m, d, x + t * apart, square + t * near_apart, index + t * near_apart, *limit, centres,
               counts + t * m, squares + t * m);
})
#undef PARAMETERS

// Distances (trials, n) to rows (m, d) that lie `rows_apart` from one trial to the next; `fine` says where it went well.
#define PARAMETERS(T)                                                                                             \
  int64_t trials, int64_t n, int64_t m, int64_t d, int64_t apart, int64_t rows_apart, int64_t others, const T *x, \
      const T *rows, double *found, bool *fine
FOR_BOTH(nearest_rows, {
  for (int64_t t = 0; t < trials;) {
    const Rows about(m, d, rows + t * rows_apart);
    do {
      fine[t] = nearest_rows_of(n, m, x + t * apart, rows + t * rows_apart, about, others, found + t * n);
      ++t;
    } while (t < trials && rows_apart == 0);
  }
})
#undef PARAMETERS

#define PARAMETERS(T) int64_t rows, int64_t k, const T *x, int64_t *index
FOR_BOTH(largest, { largest_of(rows, k, x, index); })
#undef PARAMETERS

// Of trials, each with n points of d coordinates.
#define PARAMETERS(T) \
  int64_t trials, int64_t n, int64_t d, int64_t apart, const T *x, double *mean, double *covariance
FOR_BOTH(covariance, {
  for (int64_t t = 0; t < trials; ++t) covariance_of(n, d, x + t * apart, mean + t * d, covariance + t * d * d);
})
#undef PARAMETERS

}
