// What generated programs call: matrix products, sums, transposition, and functions of one number.
//
// Shapes and strides are arguments where they cost nothing, so that all calls share what is compiled once. Vectors are
// those of GCC and Clang, as wide as the target's registers; sums have a fixed order of their own, whatever the compiler
// does. Products and sums may be contracted to fused operations; nothing else about floating point is relaxed, so that
// NaN and infinity go their way. No header of the library is included: to read them takes longer than to compile this.

typedef __INT64_TYPE__ int64_t;
typedef __UINT64_TYPE__ uint64_t;

#define INLINE inline __attribute__((always_inline))
#define APART __attribute__((noinline))
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#define UNROLLED _Pragma("GCC unroll 64")
#endif
#define ALONE __asm__ volatile("")  // in a loop too short to be worth vectors

namespace {

#if defined(__AVX512F__)
constexpr int BYTES = 64, TILE_ROWS = 8, TILE_VECTORS = 2;
#elif defined(__AVX__)
constexpr int BYTES = 32, TILE_ROWS = 6, TILE_VECTORS = 2;
#elif defined(__ARM_NEON)
constexpr int BYTES = 16, TILE_ROWS = 6, TILE_VECTORS = 4;
#else
constexpr int BYTES = 16, TILE_ROWS = 4, TILE_VECTORS = 2;
#endif
// the vectors of a tile's sums, of a row of the right factor and one more fit the registers

template <class T> constexpr int LANES = BYTES / sizeof(T);

// numbers side by side in memory, aligned as one of them
template <class T, int L> struct Row {
  typedef T type __attribute__((vector_size(L * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <class T> struct Row<T, 1> { typedef T type; };
template <class T, int L> using Vector = typename Row<T, L>::type;
template <class T, int L> INLINE Vector<T, L> load(const T* from) {
  return *reinterpret_cast<const Vector<T, L>*>(from);
}
template <class T, int L> INLINE void store(T* to, Vector<T, L> value) {
  *reinterpret_cast<Vector<T, L>*>(to) = value;
}

// ---- matrix products: out = start + left right -----------------------------------------------------------------

// Where the factors of a product lie, and its result: inner size, and strides of left (M, K) by row and column, of
// right (K, N), of out (M, N) and of start by row.
struct Layout { int64_t k, left_row, left_column, right_row, out_row, start_row; };

// Numbers to begin with: as many as there are columns, or one for each row.
struct Beside {
  static constexpr int COLUMNS = 1;
  template <class T, int L> static INLINE Vector<T, L> at(const T* from) { return load<T, L>(from); }
};
struct Alone {
  static constexpr int COLUMNS = 0;
  template <class T, int L> static INLINE Vector<T, L> at(const T* from) { return Vector<T, L>{} + from[0]; }
};

// R rows and V vectors of columns of a product at a time, `tiles` of them one below the other; sums stay in registers.
template <class T, class Start, int R, int V, int L>
APART void strip(const T* __restrict left, const T* __restrict right, const T* start, T* __restrict out, int64_t tiles,
                 const Layout& layout) {
  const auto [size, left_row, left_column, right_row, out_row, start_row] = layout;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    Vector<T, L> sums[R][V];
    UNROLLED for (int r = 0; r < R; ++r)
      UNROLLED for (int v = 0; v < V; ++v)
        sums[r][v] = start ? Start::template at<T, L>(start + r * start_row + v * L * Start::COLUMNS) : Vector<T, L>{};
    const T *x = left, *y = right;
    for (int64_t k = 0; k < size; ++k) {
      Vector<T, L> row[V];
      UNROLLED for (int v = 0; v < V; ++v) row[v] = load<T, L>(y + v * L);
      UNROLLED for (int r = 0; r < R; ++r) {
        const T factor = x[r * left_row];
        UNROLLED for (int v = 0; v < V; ++v) sums[r][v] += factor * row[v];
      }
      x += left_column, y += right_row;
    }
    UNROLLED for (int r = 0; r < R; ++r)
      UNROLLED for (int v = 0; v < V; ++v) store<T, L>(out + r * out_row + v * L, sums[r][v]);
    left += R * left_row, out += R * out_row;
    if (start) start += R * start_row;
  }
}

// Columns from FIRST on, in tiles as wide as possible.
template <class T, class Start, int M, int N, int FIRST, int V, int L>
INLINE void columns(const T* left, const T* right, const T* start, T* out, const Layout& layout) {
  constexpr int WIDTH = V * L, COUNT = (N - FIRST) / WIDTH, REST = FIRST + COUNT * WIDTH;
  constexpr int R = M < TILE_ROWS ? M : TILE_ROWS, WHOLE = M - M % R;
  for (int j = FIRST; j < REST; j += WIDTH) {
    const T* const begin = start ? start + j * Start::COLUMNS : start;
    strip<T, Start, R, V, L>(left, right + j, begin, out + j, M / R, layout);
    if constexpr (WHOLE < M)
      strip<T, Start, M % R, V, L>(left + WHOLE * layout.left_row, right + j,
                                   begin ? begin + WHOLE * layout.start_row : begin, out + WHOLE * layout.out_row + j,
                                   1, layout);
  }
  if constexpr (REST < N && V > 1)
    columns<T, Start, M, N, REST, V / 2, L>(left, right, start, out, layout);
  else if constexpr (REST < N)
    columns<T, Start, M, N, REST, 1, L / 2>(left, right, start, out, layout);
}

// out (M, N) and right (K, N) with columns side by side, left (M, K) with any strides.
template <class T, class Start, int M, int N>
APART void product(const T* left, const T* right, const T* start, T* out, Layout layout) {
  // few rows are few sums, which would wait for each other: then more columns at once
  constexpr int V = M == 1 ? 8 : M <= 3 ? 4 : TILE_VECTORS;
  columns<T, Start, M, N, 0, V, LANES<T>>(left, right, start, out, layout);
}

// ---- sums ------------------------------------------------------------------------------------------------------

template <class T, int L> INLINE T across(Vector<T, L> lanes) {
  if constexpr (L == 1) return lanes;
  else {
    Vector<T, L / 2> halves[2];
    __builtin_memcpy(halves, &lanes, sizeof lanes);
    return across<T, L / 2>(halves[0] + halves[1]);
  }
}

// Sum of f(i), as wide as L lanes, for i = 0, L, 2 L, ... of n numbers: f gets the first index and the lanes.
template <class T, int L, class Each> INLINE T rest_of(int64_t i, int64_t n, Each each) {
  if constexpr (L == 0) return 0;
  else {
    const bool fits = i + L <= n;
    const T found = fits ? across<T, L>(each.template at<L>(i)) : T(0);
    return found + rest_of<T, L / 2>(fits ? i + L : i, n, each);
  }
}
template <class T, class Each> INLINE T total(int64_t n, Each each) {
  constexpr int L = LANES<T>, V = 4;
  Vector<T, L> sums[V] = {};
  int64_t i = 0;
  for (; i + V * L <= n; i += V * L)
    UNROLLED for (int v = 0; v < V; ++v) sums[v] += each.template at<L>(i + v * L);
  for (; i + L <= n; i += L) sums[0] += each.template at<L>(i);
  return across<T, L>((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest_of<T, L / 2>(i, n, each);
}
template <class T> struct Itself {
  const T* x;
  template <int L> INLINE Vector<T, L> at(int64_t i) const { return load<T, L>(x + i); }
};
template <class T> struct Times {
  const T *x, *y;
  template <int L> INLINE Vector<T, L> at(int64_t i) const { return load<T, L>(x + i) * load<T, L>(y + i); }
};

// out (m) of the rows of x (m, n), which lie side by side: sums, sums of squares, and largest numbers, NaN if one is
template <class T> APART void sums(const T* __restrict x, T* __restrict out, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i) out[i] = total<T>(n, Itself<T>{x + i * n});
}
template <class T> APART void square_sums(const T* __restrict x, T* __restrict out, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i) out[i] = total<T>(n, Times<T>{x + i * n, x + i * n});
}
template <class T> APART void largest(const T* __restrict x, T* __restrict out, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i, x += n) {
    T found = x[0];
    for (int64_t j = 1; j < n; ++j) {
      found = (x[j] > found || x[j] != x[j]) ? x[j] : found;
      ALONE;
    }
    out[i] = found;
  }
}

// out (m, N) of few columns: rows of the left factor and columns of the right one lie side by side in memory.
template <class T, int N, int K>
APART void narrow(const T* __restrict left, const T* __restrict right, const T* start, T* __restrict out, int64_t m,
                  int64_t left_row, int64_t right_column, int64_t out_row, int64_t out_column,
                  int64_t start_row, int64_t start_column) {
  for (int64_t i = 0; i < m; ++i)
    UNROLLED for (int j = 0; j < N; ++j) {
      const T found = total<T>(K, Times<T>{left + i * left_row, right + j * right_column});
      out[i * out_row + j * out_column] = (start ? start[i * start_row + j * start_column] : T(0)) + found;
    }
}

// Sums (n) of the columns of x (m, n), rows side by side, from column j on.
template <class T, int L> INLINE void sum_columns(const T* x, T* out, int64_t m, int64_t n, int64_t j) {
  for (; j + L <= n; j += L) {
    Vector<T, L> even = {}, odd = {};
    for (int64_t i = 0; i + 1 < m; i += 2) {
      even += load<T, L>(x + i * n + j);
      odd += load<T, L>(x + (i + 1) * n + j);
      ALONE;
    }
    if (m % 2) even += load<T, L>(x + (m - 1) * n + j);
    store<T, L>(out + j, even + odd);
  }
  if constexpr (L > 1) sum_columns<T, L / 2>(x, out, m, n, j);
}
template <class T> APART void sum_rows(const T* __restrict x, T* __restrict out, int64_t m, int64_t n) {
  sum_columns<T, LANES<T>>(x, out, m, n, 0);
}

// ---- transposition: out (M, N), rows side by side, of x with columns N and rows M ------------------------------

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES 1
#endif
#endif

#ifdef SHUFFLES
template <int... I> struct Indices {};
template <int N, int... I> struct UpTo : UpTo<N - 1, N - 1, I...> {};
template <int... I> struct UpTo<0, I...> { typedef Indices<I...> type; };

template <int FIRST, class V, int... I> INLINE V zip(V a, V b, Indices<I...>) {
  constexpr int L = sizeof...(I);
  return __builtin_shufflevector(a, b, (FIRST + I / 2 + (I % 2) * L)...);
}
// L rows of L numbers: merging row i with row i + L / 2, log2(L) times, transposes.
template <class T, int L> INLINE void transpose_block(const T* x, int64_t apart, T* out, int64_t out_apart) {
  Vector<T, L> rows[L], next[L];
  UNROLLED for (int i = 0; i < L; ++i) rows[i] = load<T, L>(x + i * apart);
  UNROLLED for (int stage = 1; stage < L; stage *= 2) {
    UNROLLED for (int i = 0; i < L / 2; ++i) {
      next[2 * i] = zip<0>(rows[i], rows[i + L / 2], typename UpTo<L>::type());
      next[2 * i + 1] = zip<L / 2>(rows[i], rows[i + L / 2], typename UpTo<L>::type());
    }
    UNROLLED for (int i = 0; i < L; ++i) rows[i] = next[i];
  }
  UNROLLED for (int i = 0; i < L; ++i) store<T, L>(out + i * out_apart, rows[i]);
}
#endif

// out[i * n + j] = x[j * apart + i]
template <class T> APART void transpose(const T* __restrict x, T* __restrict out, int64_t m, int64_t n, int64_t apart) {
  int64_t whole_i = 0, whole_j = 0;
#ifdef SHUFFLES
  if constexpr (T(0.5) != T(0)) {
    constexpr int L = LANES<T>;
    whole_i = m / L * L, whole_j = n / L * L;
    for (int64_t i = 0; i < whole_i; i += L)
      for (int64_t j = 0; j < whole_j; j += L) transpose_block<T, L>(x + j * apart + i, apart, out + i * n + j, n);
  }
#endif
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = i < whole_i ? whole_j : 0; j < n; ++j) {
      out[i * n + j] = x[j * apart + i];
      ALONE;
    }
}

// ---- functions of one number -----------------------------------------------------------------------------------
//
// For float they are computed in double and free of branches, so that loops over them become vectors; each result is
// within one unit in the last place (float) of the exact one. For double they are the C library's, as these are for both:

INLINE float root(float x) { return __builtin_sqrtf(x); }
INLINE double root(double x) { return __builtin_sqrt(x); }
INLINE float size_of(float x) { return __builtin_fabsf(x); }
INLINE double size_of(double x) { return __builtin_fabs(x); }
INLINE int64_t size_of(int64_t x) { return x < 0 ? -x : x; }
INLINE float floor_of(float x) { return __builtin_floorf(x); }
INLINE double floor_of(double x) { return __builtin_floor(x); }
INLINE float power(float x, float y) { return __builtin_powf(x, y); }
INLINE double power(double x, double y) { return __builtin_pow(x, y); }
INLINE float remainder_of(float x, float by) {
  const float rest = __builtin_fmodf(x, by);
  return rest != 0 && (rest < 0) != (by < 0) ? rest + by : rest;
}
INLINE double remainder_of(double x, double by) {
  const double rest = __builtin_fmod(x, by);
  return rest != 0 && (rest < 0) != (by < 0) ? rest + by : rest;
}
INLINE float log1p_of(float x) { return __builtin_log1pf(x); }
INLINE double log1p_of(double x) { return __builtin_log1p(x); }
INLINE float expm1_of(float x) { return __builtin_expm1f(x); }
INLINE double expm1_of(double x) { return __builtin_expm1(x); }
INLINE float erf_of(float x) { return __builtin_erff(x); }
INLINE double erf_of(double x) { return __builtin_erf(x); }
INLINE float arc_tangent(float x) { return __builtin_atanf(x); }
INLINE double arc_tangent(double x) { return __builtin_atan(x); }

template <class To, class From> INLINE To bits(From value) { return __builtin_bit_cast(To, value); }

// exp(x) for double from -700 to 700, relative error below 1e-11; NaN stays, if it was one of float
INLINE double exp_within(double x) {
  const double shifted = x * 1.4426950408889634 + 0x1.8p52;  // rounds to an integer in the low bits
  const double n = shifted - 0x1.8p52;
  const double r = (x - n * 0.6931471803691238) - n * 1.9082149292705877e-10;
  double p = 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const int64_t exponent = bits<int64_t>(shifted) << 52;
  return bits<double>(bits<int64_t>(p) + exponent);
}
// the same for any double; 0 and infinity beyond the range of float
INLINE double exp_about(double x) {
  const double bounded = x < -800.0 ? -800.0 : x > 700.0 ? 700.0 : x;  // NaN stays
  const double scaled = exp_within(bounded);  // of no use below -700
  return bounded < -700.0 ? 0.0 : bounded != bounded ? bounded : scaled;
}

// log(x) for normal double x > 0, relative error below 1e-11
INLINE double log_about(double x) {
  const int64_t raw = bits<int64_t>(x);
  const int64_t high = raw - 0x3fe6a09e667f3bcd;  // above sqrt(1/2), so that the rest lies around 1
  const int64_t exponent = high & int64_t(0xfff0000000000000);
  const double m = bits<double>(raw - exponent);
  // the exponent as a number, without a conversion: its biased form in the low bits of 2^52
  const double n = bits<double>(((uint64_t(exponent) >> 52) ^ 0x800) | 0x4330000000000000) - (0x1p52 + 2048.0);
  const double s = (m - 1.0) / (m + 1.0), t = s * s;
  double p = 1.0 / 15;
  p = p * t + 1.0 / 13;
  p = p * t + 1.0 / 11;
  p = p * t + 1.0 / 9;
  p = p * t + 1.0 / 7;
  p = p * t + 1.0 / 5;
  p = p * t + 1.0 / 3;
  p = p * t + 1.0;
  return n * 0.6931471805599453 + 2.0 * s * p;
}

INLINE float exp_of(float x) { return float(exp_about(double(x))); }
INLINE double exp_of(double x) { return __builtin_exp(x); }

INLINE float log_of(float x) {
  const double wide = x, inside = log_about(wide);
  const double edge = wide == 0.0 ? -__builtin_inf() : wide < 0.0 ? __builtin_nan("") : wide;  // infinity and NaN stay
  return float(wide > 0.0 && wide < __builtin_inf() ? inside : edge);
}
INLINE double log_of(double x) { return __builtin_log(x); }

// log(1 + e) for e >= 0, by Kahan's correction of the rounding in 1 + e
INLINE double log1p_about(double e) {
  const double u = 1.0 + e, one_off = u - 1.0;
  const double corrected = log_about(u) * (e / (one_off == 0.0 ? 1.0 : one_off));
  return one_off == 0.0 ? e : corrected;
}

// log(1 + exp(beta x)) / beta, x itself where beta x exceeds a threshold
INLINE float softplus(float x, float beta, float threshold) {
  const double z = double(x) * beta;
  return z > threshold ? x : float(log1p_about(exp_about(z)) / beta);
}
INLINE double softplus(double x, double beta, double threshold) {
  const double z = x * beta;
  return z > threshold ? x : __builtin_log1p(__builtin_exp(z)) / beta;
}
template <class T> INLINE T softplus_slope(T slope, T x, T beta, T threshold) {
  const T z = x * beta, e = exp_of(z > threshold ? threshold : z);
  return z > threshold ? slope : slope * e / (e + T(1));
}

INLINE float tanh_of(float x) {
  const double wide = x, size = __builtin_fabs(wide), twice = -2.0 * size;
  const double e = exp_within(twice < -100.0 ? -100.0 : twice);  // which is nothing beside 1
  const double outer = (1.0 - e) / (1.0 + e), inner = size - size * size * size * (1.0 / 3);
  return float(__builtin_copysign(size < 0.001 ? inner : outer, wide));
}
INLINE double tanh_of(double x) { return __builtin_tanh(x); }
INLINE float sigmoid(float x) { return float(1.0 / (1.0 + exp_about(-double(x)))); }
INLINE double sigmoid(double x) { return 1.0 / (1.0 + __builtin_exp(-x)); }

template <class T> INLINE void copy(T* to, const T* from, int64_t count) {
  __builtin_memcpy(to, from, count * sizeof(T));
}
template <class T> INLINE void exchange(T*& a, T*& b) {
  T* const kept = a;
  a = b, b = kept;
}
template <class T> INLINE T smaller(T a, T b) { return (a < b || a != a) ? a : b; }
template <class T> INLINE T larger(T a, T b) { return (a > b || a != a) ? a : b; }
template <class T> INLINE T sign(T x) { return x != x ? x : T((x > 0) - (x < 0)); }
// from `start` if the weight is small, from `end` if it is not, so that the result is exact at both
template <class T> INLINE T between(T start, T end, T weight) {
  const bool small = size_of(weight) < T(0.5);
  return (small ? start : end) + (small ? weight : weight - T(1)) * (end - start);
}

// Quantiles of the standard normal distribution: rational approximations of the Cephes library (S. Moshier), relative
// error 5e-16 in double.
template <int N> INLINE double ratio(const double (&above)[N], const double (&below)[9], double x) {
  double p = above[0], q = below[0];
  UNROLLED for (int i = 1; i < N; ++i) p = p * x + above[i];
  UNROLLED for (int i = 1; i < 9; ++i) q = q * x + below[i];
  return p / q;
}
constexpr double CENTRE_ABOVE[] = {-5.99633501014107895267e1, 9.80010754185999661536e1, -5.66762857469070293439e1,
                                   1.39312609387279679503e1, -1.23916583867381258016e0};
constexpr double CENTRE_BELOW[] = {1.0, 1.95448858338141759834e0, 4.67627912898881538453e0, 8.63602421390890590575e1,
                                   -2.25462687854119370527e2, 2.00260212380060660359e2, -8.20372256168333339912e1,
                                   1.59056225126211695515e1, -1.18331621121330003142e0};
constexpr double NEAR_ABOVE[] = {4.05544892305962419923e0, 3.15251094599893866154e1, 5.71628192246421288162e1,
                                 4.40805073893200834700e1, 1.46849561928858024014e1, 2.18663306850790267539e0,
                                 -1.40256079171354495875e-1, -3.50424626827848203418e-2, -8.57456785154685413611e-4};
constexpr double NEAR_BELOW[] = {1.0, 1.57799883256466749731e1, 4.53907635128879210584e1, 4.13172038254672030440e1,
                                 1.50425385692907503408e1, 2.50464946208309415979e0, -1.42182922854787788574e-1,
                                 -3.80806407691578277194e-2, -9.33259480895457427372e-4};
constexpr double FAR_ABOVE[] = {3.23774891776946035970e0, 6.91522889068984211695e0, 3.93881025292474443415e0,
                                1.33303460815807542389e0, 2.01485389549179081538e-1, 1.23716634817820021358e-2,
                                3.01581553508235416007e-4, 2.65806974686737550832e-6, 6.23974539184983293730e-9};
constexpr double FAR_BELOW[] = {1.0, 6.02427039364742014255e0, 3.67983563856160859403e0, 1.37702099489081330271e0,
                                2.16236993594496635890e-1, 1.34204006088543189037e-2, 3.28014464682127739104e-4,
                                2.89247864745380683936e-6, 6.79019408009981274425e-9};

// The argument in (0, 1), its logarithm's source as a function.
template <class Log> INLINE double quantile_inside(double p, Log log) {
  const bool upper = p > 1.0 - 0.13533528323661269189;
  const double tail = upper ? 1.0 - p : p, y = p - 0.5, y2 = y * y;
  const double centre = (y + y * (y2 * ratio(CENTRE_ABOVE, CENTRE_BELOW, y2))) * 2.50662827463100050242;
  const double x = __builtin_sqrt(-2.0 * log(tail)), z = 1.0 / x;
  const double bend = z * (x < 8.0 ? ratio(NEAR_ABOVE, NEAR_BELOW, z) : ratio(FAR_ABOVE, FAR_BELOW, z));
  const double outer = x - log(x) * z - bend;
  return tail > 0.13533528323661269189 ? centre : upper ? outer : -outer;
}
template <class T, class Log> INLINE T quantile_by(T p, Log log) {
  const bool inside = p > 0 && p < 1;
  const double found = quantile_inside(inside ? double(p) : 0.5, log);
  return inside ? T(found) : p == 0 ? T(-__builtin_inf()) : p == 1 ? T(__builtin_inf()) : T(__builtin_nan(""));
}
INLINE float quantile(float p) {
  return quantile_by(p, [](double x) { return log_about(x); });
}
INLINE double quantile(double p) {
  return quantile_by(p, [](double x) { return __builtin_log(x); });
}

// Sine and cosine of an angle of a few turns at most.
INLINE double sine_about(double x, int64_t quarter) {
  const double shifted = x * 0.6366197723675814 + 0x1.8p52, n = shifted - 0x1.8p52;
  const double r = (x - n * 1.5707963267341256) - n * 6.077100506506192e-11, t = r * r;
  const int64_t q = bits<int64_t>(shifted) + quarter;
  const double s = r + r * t * (-1.0 / 6 + t * (1.0 / 120 + t * (-1.0 / 5040 + t * (1.0 / 362880 - t / 39916800))));
  const double c = 1.0 + t * (-0.5 + t * (1.0 / 24 + t * (-1.0 / 720 + t * (1.0 / 40320 - t * (1.0 / 3628800)))));
  const double found = (q & 1) ? c : s;
  return (q & 2) ? -found : found;
}
INLINE float sine(float x) { return float(sine_about(x, 0)); }
INLINE float cosine(float x) { return float(sine_about(x, 1)); }
INLINE double sine(double x) { return __builtin_sin(x); }
INLINE double cosine(double x) { return __builtin_cos(x); }

}  // namespace
